/** Rules that need more than a packet's headers: about state, devices or fragments, or in chains of the user's own. */
import type { TableName } from '../../src/rules/index.ts';

const DEMANDING = /-m (conntrack|state|frag|mac|pkttype) | -[io] | -f |^:\S+ - /m;

/** Whether a ruleset, or one table of it, has such rules. */
export function isDemanding(text: string, table?: TableName): boolean {
  const section =
    table === undefined ? text : (new RegExp(`^\\*${table}\\n[\\s\\S]*?^COMMIT$`, 'm').exec(text)?.[0] ?? '');
  return DEMANDING.test(section);
}
