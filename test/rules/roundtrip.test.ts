/** What is printed parses to the same rules; what is broken never throws. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import {
  formatDiagnostic,
  parseRuleset,
  printRuleset,
  type Rule,
  type Ruleset,
} from '../../src/rules/index.ts';
import { readRuleset, rulesetPaths } from '../support/corpus.ts';
import { randomRule, tableWith } from '../support/random-rules.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const SOAK = process.env.SLUICE_SOAK === '1' ? 100 : 1;

function parsed(text: string, family: Family): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(formatDiagnostic(error));
  return ruleset;
}

/** Everything about a rule but where it stood. */
function meaning(rule: Rule): unknown {
  const { base, matches, target } = rule;
  return {
    base: { ...base, ...(base.protocol?.number === 0 ? { protocol: undefined } : {}) },
    matches: matches.map(({ name, state }) => ({ name, state })),
    target: target === undefined ? undefined : { ...target, span: undefined },
  };
}

function meanings(ruleset: Ruleset): unknown {
  return ruleset.tables.map(({ name, chains }) => ({
    name,
    chains: chains.map((chain) => ({
      name: chain.name,
      policy: chain.policy,
      rules: chain.rules.map(meaning),
    })),
  }));
}

describe('round trip', () => {
  it.each(FAMILIES)('printing is a fixed point for %s', (family) => {
    fc.assert(
      fc.property(fc.array(randomRule(family), { minLength: 1, maxLength: 4 }), (rules) => {
        const first = parsed(tableWith(rules), family);
        const printed = printRuleset(first);
        const second = parsed(printed, family);
        expect(printRuleset(second)).toBe(printed);
        return true;
      }),
      { numRuns: 600 * SOAK },
    );
  });

  it.each(FAMILIES)('a printed rule means what it meant, for %s', (family) => {
    fc.assert(
      fc.property(randomRule(family), (rule) => {
        const first = parsed(printRuleset(parsed(tableWith([rule]), family)), family);
        const second = parsed(printRuleset(first), family);
        expect(meanings(second)).toEqual(meanings(first));
      }),
      { numRuns: 600 * SOAK },
    );
  });

  it('counters survive', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (packets, bytes) => {
          const text = `*raw\n:PREROUTING ACCEPT [${bytes}:${packets}]\n:OUTPUT ACCEPT [0:0]\n[${packets}:${bytes}] -A OUTPUT -j ACCEPT\nCOMMIT\n`;
          expect(printRuleset(parsed(text, 'ipv4'), { counters: true })).toBe(text);
        },
      ),
    );
  });
});

/** Cuts, doubles, swaps and replaces pieces of a text. */
const mutation: fc.Arbitrary<(text: string) => string> = fc
  .tuple(
    fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    fc.nat(12),
    fc.oneof(
      fc.constant(''),
      fc.string({ maxLength: 8 }),
      fc.constantFrom(
        '"',
        '! ',
        '\\',
        '\n',
        '\r\n',
        ' -j ',
        ' -m tcp ',
        '--',
        '[',
        ':',
        '*nat\n',
        'COMMIT\n',
        '\0',
        '0x',
        ',',
      ),
      fc.constantFrom(
        '-A INPUT ',
        '-X\n',
        '-F\n',
        '-I OUTPUT 3 ',
        '-D INPUT 1\n',
        '-N x\n',
        '-E x y\n',
        '-P INPUT DROP\n',
        '-R INPUT 1 ',
      ),
    ),
  )
  .map(([place, cut, insert]) => (text: string) => {
    const at = Math.floor(place * text.length);
    return text.slice(0, at) + insert + text.slice(at + cut);
  });

describe('broken input', () => {
  const paths = [...rulesetPaths().values()].filter((_, index) => index % 7 === 0);

  it.skipIf(paths.length === 0)('never throws, and every diagnostic has a place in the text', () => {
    const texts = paths.map(readRuleset).filter((text) => text.length < 20_000);
    fc.assert(
      fc.property(
        fc.constantFrom(...texts),
        fc.array(mutation, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(...FAMILIES),
        fc.boolean(),
        (text, mutations, family, acceptOldNegation) => {
          const broken = mutations.reduce((so, mutate) => mutate(so), text);
          const lines = broken.split('\n');
          const { diagnostics } = parseRuleset(broken, { file: 'rules', family, acceptOldNegation });
          for (const { span, sourceLine } of diagnostics) {
            expect(span.line).toBeLessThanOrEqual(lines.length + 1);
            expect((lines[span.line - 1] ?? '').replace(/\r$/, '')).toBe(sourceLine);
            expect(span.length).toBeGreaterThan(0);
          }
        },
      ),
      { numRuns: 250 * SOAK },
    );
  });

  it('never throws on arbitrary text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        parseRuleset(text, { file: 'rules' });
        parseRuleset(`*filter\n${text}\nCOMMIT\n`, { file: 'rules', family: 'ipv4' });
      }),
      { numRuns: 1000 * SOAK },
    );
  });
});
