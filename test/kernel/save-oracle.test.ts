/** Random rules: the real iptables-restore and iptables-save make of them what the parser and the printer make of them. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { iptablesMissing, restore } from '../support/iptables.ts';
import { randomRule, tableWith } from '../support/random-rules.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

describe.skipIf(iptablesMissing !== undefined)(
  `iptables-save${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    it.each<Family>(['ipv4', 'ipv6'])('prints random %s rules the same', (family) => {
      fc.assert(
        fc.property(fc.array(randomRule(family), { minLength: 1, maxLength: 60 }), (rules) => {
          const text = tableWith(rules);
          const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
          const errors = diagnostics.filter(({ severity }) => severity === 'error');
          const real = restore(text, family);
          if (real.accepted) {
            expect(errors.map(formatDiagnostic)).toEqual([]);
            expect(printRuleset(ruleset).split('\n')).toEqual(real.saved.split('\n'));
          } else {
            expect(`${errors.length} errors; ${real.message} ${text.split('\n')[(real.line ?? 1) - 1]}`).toBe(
              '',
            );
          }
        }),
        { numRuns: 150 * SOAK },
      );
    });
  },
);
