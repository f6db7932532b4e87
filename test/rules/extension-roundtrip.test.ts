/** Every extension: what is printed parses to the same state, and prints the same again. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { formatDiagnostic, parseRuleset, printRuleset, type Ruleset } from '../../src/rules/index.ts';
import { randomExtensionRuleset } from '../support/random-extension-rules.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const SOAK = process.env.SLUICE_SOAK === '1' ? 100 : 1;

function parsed(text: string, family: Family): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(formatDiagnostic(error));
  return ruleset;
}

/** The states of all extensions, without the places they were read from. */
function states(ruleset: Ruleset): unknown {
  return ruleset.tables.flatMap(({ chains }) =>
    chains.flatMap(({ rules }) =>
      rules.map(({ matches, target }) => [
        ...matches.map(({ name, state }) => ({ name, state })),
        target?.kind === 'extension' ? { name: target.name, state: target.state } : undefined,
      ]),
    ),
  );
}

describe('extensions as text', () => {
  it.each(FAMILIES)('round trip for %s', (family) => {
    fc.assert(
      fc.property(randomExtensionRuleset(family), (text) => {
        const first = parsed(printRuleset(parsed(text, family)), family);
        const printed = printRuleset(first);
        const second = parsed(printed, family);
        expect(printRuleset(second)).toBe(printed);
        expect(states(second)).toEqual(states(first));
      }),
      { numRuns: 150 * SOAK },
    );
  });
});
