/** Canonical rule lines by chain, from the text of rulesets: what is compared when rules are replaced. */
import type { Family } from '../../net/index.ts';

export interface ChainLines {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** ACCEPT or DROP; "-" of other chains. */
  readonly policy: string;
  /** In the order of the rules. */
  readonly lines: string[];
}

/** By family, table and chain with blanks between. */
export function ruleLines(
  rulesets: readonly { readonly family: Family; readonly text: string }[],
): Map<string, ChainLines> {
  const chains = new Map<string, ChainLines>();
  for (const { family, text } of rulesets) {
    let table = '';
    let last: ChainLines | undefined;
    for (const line of text.split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      else if (line.startsWith(':')) {
        const [chain, policy] = line.slice(1).split(' ', 2);
        chains.set(`${family} ${table} ${chain}`, {
          family,
          table,
          chain: chain!,
          policy: policy!,
          lines: [],
        });
      } else if (line.startsWith('-A ')) {
        const end = line.indexOf(' ', 3);
        const chain = end < 0 ? line.slice(3) : line.slice(3, end);
        if (last?.chain !== chain || last.table !== table || last.family !== family)
          last = chains.get(`${family} ${table} ${chain}`);
        last?.lines.push(line);
      }
    }
  }
  return chains;
}
