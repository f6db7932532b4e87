/** How many of the shared real rulesets compile at netfilter, filter tables; the others with their reasons. */
import { describe, expect, test } from 'vitest';
import { CompileError, compilePolicy } from '../../src/compile/index.ts';
import { CANONICAL, canonicalTables } from '../support/rulesets.ts';
import { sharedDataExists } from '../support/shared-data.ts';

/** Of the 431 canonical files with filter rules, what must compile. */
const TARGET = 366;

describe.skipIf(!sharedDataExists(CANONICAL))('real rulesets at netfilter', () => {
  test('compile, all but those whose reasons are listed', async () => {
    const filesWith = new Map<string, number>();
    const note = (reason: string): void => void filesWith.set(reason, (filesWith.get(reason) ?? 0) + 1);
    let files = 0;
    let compiled = 0;
    for (const { ruleset, problem } of canonicalTables('filter')) {
      files += 1;
      if (ruleset === undefined) {
        note(`not read | ${problem}`);
        continue;
      }
      try {
        compilePolicy([ruleset], { hooks: ['netfilter'] });
        compiled += 1;
      } catch (error) {
        if (!(error instanceof CompileError)) throw error;
        const reasons = error.refusals.map(({ what, reason }) => `${what} | ${reason}`);
        for (const reason of new Set(reasons)) note(reason);
      }
    }
    const lines = [...filesWith].sort(([a, n], [b, m]) => m - n || a.localeCompare(b));
    const page = [
      '# Real rulesets as programs',
      '',
      `${compiled} of ${files} real rulesets compile at netfilter, table filter. These keep the others from it (a file may have several of`,
      'them); what is evaluated runs in the netstack all the same. Made by `test/compile/coverage.test.ts` from rulesets that lie',
      'beside the checkout.',
      '',
      'files | what | why',
      '--:|---|---',
      ...lines.map(([reason, count]) => `${count} | ${reason}`),
      '',
    ].join('\n');
    await expect(page).toMatchFileSnapshot('../../docs/coverage.md');
    expect(files).toBe(431);
    expect(compiled).toBeGreaterThanOrEqual(TARGET);
  });
});
