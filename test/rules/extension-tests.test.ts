/** iptables' own extension tests: `rule;saved form or "=";OK|FAIL`, for every extension that is known here. */
import { describe, expect, it } from 'vitest';
import { formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { ENVIRONMENT, extensionCases } from '../support/extension-cases.ts';
import { sharedDataExists } from '../support/shared-data.ts';

interface Known {
  readonly differs: readonly string[];
  readonly unknown: number;
  readonly compared: number;
}

/** Names that the rule uses and that are not known here: such cases are counted, not compared. */
const FOREIGN: ReadonlySet<string> = new Set(['UNKNOWN_MATCH', 'UNKNOWN_TARGET']);

function run(): Known {
  const differs: string[] = [];
  let unknown = 0;
  let compared = 0;
  for (const { file, line, family, table, chain, rule, saved } of extensionCases()) {
    const text = `*${table}\n-A ${chain} ${rule}\nCOMMIT\n`;
    const { ruleset, diagnostics } = parseRuleset(text, { file, family });
    const errors = diagnostics.filter(({ severity }) => severity === 'error');
    if (errors.some(({ code }) => FOREIGN.has(code))) {
      unknown++;
      continue;
    }
    compared++;
    const printed = printRuleset(ruleset)
      .split('\n')
      .filter((one) => one.startsWith('-A'));
    const wanted = `-A ${chain} ${saved}`.trim();
    if (saved === undefined && errors.length === 0 && !ENVIRONMENT.test(rule))
      differs.push(`${file}:${line} ${family} accepts ${rule}`);
    if (saved !== undefined && errors.length > 0)
      differs.push(`${file}:${line} ${family} ${formatDiagnostic(errors[0]!)}`);
    if (saved !== undefined && errors.length === 0 && printed.join('\n') !== wanted)
      differs.push(`${file}:${line} ${family} wanted ${wanted} but is ${printed.join(' | ')}`);
  }
  return { differs, unknown, compared };
}

describe.skipIf(!sharedDataExists('iptables-ext-tests'))('extension tests of iptables', () => {
  it('are accepted, printed and refused as they say', () => {
    const { differs, unknown, compared } = run();
    console.log(`${compared} cases compared, ${unknown} of extensions that are not known`);
    expect(differs).toEqual([]);
    expect(unknown).toBe(0);
    expect(compared).toBeGreaterThan(2700);
  });
});
