/** How many of the shared real rulesets compile at netfilter, filter tables; the others with their reasons. */
import { describe, expect, test } from 'vitest';
import { CompileError, compilePolicy } from '../../src/compile/index.ts';
import { CANONICAL, canonicalTables } from '../support/rulesets.ts';
import { sharedDataExists } from '../support/shared-data.ts';

/** Of the 431 canonical files with filter rules, what must compile. */
const TARGET = 366;

describe.skipIf(!sharedDataExists(CANONICAL))('real rulesets at netfilter', () => {
  test('compile, all but those whose reasons are listed', async () => {
    const reasons = new Map<string, number>();
    const note = (reason: string): void => void reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    let files = 0;
    let compiled = 0;
    for (const { ruleset, problem } of canonicalTables('filter')) {
      files += 1;
      if (ruleset === undefined) {
        note(`not read: ${problem}`);
        continue;
      }
      try {
        compilePolicy([ruleset], { hooks: ['netfilter'] });
        compiled += 1;
      } catch (error) {
        if (!(error instanceof CompileError)) throw error;
        const others = error.refusals.filter(({ code }) => code !== 'TOO_LONG');
        if (others.length === 0) compiled += 1;
        for (const reason of new Set(others.map(({ what, reason: why }) => `${what}: ${why}`))) note(reason);
      }
    }
    const lines = [...reasons].sort(([a, n], [b, m]) => m - n || a.localeCompare(b));
    const list = [
      `${compiled} of ${files} files compile. Files that do not, by reason (a file may have several):`,
      ...lines.map(([reason, count]) => `${count}\t${reason}`),
      '',
    ].join('\n');
    await expect(list).toMatchFileSnapshot('golden/not-compiled.txt');
    expect(files).toBe(431);
    expect(compiled).toBeGreaterThanOrEqual(TARGET);
  });
});
