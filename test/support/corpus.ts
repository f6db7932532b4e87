/** The shared real rulesets: canonical files, one table of each. */
import { parseRuleset, type Ruleset, type TableName } from '../../src/rules/index.ts';
import { readSharedText, sharedDataFiles } from './shared-data.ts';

export const CANONICAL = 'rulesets-canonical';

export interface CanonicalTable {
  readonly file: string;
  /** Absent when the parser does not know all of it; `problem` says the first thing. */
  readonly ruleset: Ruleset | undefined;
  readonly problem: string;
}

/** Every canonical file that has rules in the table. */
export function* canonicalTables(table: TableName): Generator<CanonicalTable> {
  const section = new RegExp(`^\\*${table}\\n[\\s\\S]*?^COMMIT$`, 'm');
  for (const file of sharedDataFiles(CANONICAL)) {
    const text = section.exec(readSharedText(CANONICAL, file))?.[0];
    if (text === undefined || !/^-A /m.test(text)) continue;
    const family = file.endsWith('.v6') ? 'ipv6' : 'ipv4';
    const { ruleset, diagnostics } = parseRuleset(`${text}\n`, { file, family });
    const problem = diagnostics.find(({ severity }) => severity === 'error')?.message ?? '';
    yield { file, ruleset: problem === '' ? ruleset : undefined, problem };
  }
}
