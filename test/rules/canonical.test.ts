/** Every shared ruleset that iptables 1.8.9 could restore parses, and prints as iptables-save printed it. */
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { canonicalFiles, readCanonical, readRuleset, rulesetPaths } from '../support/corpus.ts';
import { withoutComments } from '../support/iptables.ts';
import { sharedDataExists } from '../support/shared-data.ts';

/** The printed form; the diagnostics instead, when there is an error. */
function roundTrip(text: string, family: Family, file: string): string {
  const { ruleset, diagnostics } = parseRuleset(text, { file, family });
  const errors = diagnostics.filter(({ severity }) => severity === 'error');
  return errors.length > 0 ? errors.slice(0, 3).map(formatDiagnostic).join('\n') : printRuleset(ruleset);
}

/** Table by table: iptables-save has the tables in the kernel's order, and prints tables that the file did not name. */
function tables(saved: string): ReadonlyMap<string, string> {
  return new Map(
    withoutComments(saved)
      .split(/^(?=\*)/m)
      .filter((part) => part.startsWith('*'))
      .map((part) => [part.slice(1, part.indexOf('\n')), part.trimEnd()]),
  );
}

describe.skipIf(!sharedDataExists('rulesets-canonical'))('canonical rulesets', () => {
  it('print as they were read, byte for byte', () => {
    const files = canonicalFiles();
    const wrong = new Map<string, string>();
    for (const file of files) {
      const text = withoutComments(readCanonical(file));
      const printed = roundTrip(text, file.family, file.name);
      if (printed !== text) wrong.set(file.name, firstDifference(text, printed));
    }
    expect(Object.fromEntries(wrong)).toEqual({});
    expect(files.length).toBeGreaterThan(400);
  });

  it('are what their sources print as', () => {
    const sources = rulesetPaths();
    const wrong = new Map<string, string>();
    let compared = 0;
    for (const file of canonicalFiles()) {
      if (file.backend !== 'legacy') continue;
      const path = sources.get(file.source)!;
      const printed = tables(roundTrip(readRuleset(path), file.family, path));
      const wanted = tables(readCanonical(file));
      compared++;
      if (printed.size === 0) wrong.set(path, roundTrip(readRuleset(path), file.family, path).slice(0, 600));
      for (const [table, text] of printed) {
        const want = wanted.get(table) ?? '';
        if (want !== text) wrong.set(`${path} ${table}`, firstDifference(want, text));
      }
    }
    expect(Object.fromEntries(wrong)).toEqual({});
    expect(compared).toBeGreaterThan(250);
  });
});

function firstDifference(wanted: string, printed: string): string {
  const lines = printed.split('\n');
  const index = wanted.split('\n').findIndex((line, at) => line !== lines[at]);
  return `wanted ${wanted.split('\n')[index]}\nbut is ${lines[index]}`;
}
