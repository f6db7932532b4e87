/** Random rules: the real iptables-restore and iptables-save make of them what the parser and the printer make of them. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { COMMIT_CODES, formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { iptablesMissing, restore } from '../support/iptables.ts';
import { randomRule, tableWith } from '../support/random-rules.ts';

const chain = fc.constantFrom('INPUT', 'a', 'a', 'b', 'c');
const target = fc.constantFrom('-j ACCEPT', '-j DROP', '-j a', '-g b', '-j c', '', '-p tcp -j RETURN');
const place = fc.integer({ min: 1, max: 3 });

/** Commands on few chains and rules, so that they often meet. */
const randomCommand: fc.Arbitrary<string> = fc.oneof(
  fc.tuple(chain, target).map(([name, rule]) => `-A ${name} ${rule}`),
  fc.tuple(chain, place, target).map(([name, number, rule]) => `-I ${name} ${number} ${rule}`),
  fc.tuple(chain, target).map(([name, rule]) => `-I ${name} -s 1.1.1.1,2.2.2.2 ${rule}`),
  fc.tuple(chain, place).map(([name, number]) => `-D ${name} ${number}`),
  fc.tuple(chain, target).map(([name, rule]) => `-D ${name} ${rule}`),
  fc.tuple(chain, target).map(([name, rule]) => `-C ${name} ${rule}`),
  fc.tuple(chain, place, target).map(([name, number, rule]) => `-R ${name} ${number} ${rule}`),
  fc.tuple(fc.constantFrom('-N', '-X', '-F', '-Z'), chain).map(([command, name]) => `${command} ${name}`),
  fc.constantFrom('-F', '-Z', '-P INPUT DROP', '-P OUTPUT ACCEPT', '-P a DROP'),
  fc.tuple(chain, chain).map(([from, to]) => `-E ${from} ${to}`),
);

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

describe.skipIf(iptablesMissing !== undefined)(
  `iptables-save${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    it('does the same with random commands', () => {
      fc.assert(
        fc.property(fc.array(randomCommand, { minLength: 1, maxLength: 25 }), (commands) => {
          const text = `*filter\n:INPUT ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n${commands.join('\n')}\nCOMMIT\n`;
          const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family: 'ipv4' });
          const real = restore(text, 'ipv4');
          const atCommit = real.line === commands.length + 5;
          const first = diagnostics.find(
            ({ severity, code }) => severity === 'error' && COMMIT_CODES.has(code) === atCommit,
          );
          expect(`${real.message} ${atCommit ? first !== undefined : (first?.span.line ?? 0)}`).toBe(
            `${real.message} ${atCommit ? true : (real.line ?? 0)}`,
          );
          if (real.accepted) expect(printRuleset(ruleset).split('\n')).toEqual(real.saved.split('\n'));
        }),
        { numRuns: 200 * SOAK },
      );
    });

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
        { numRuns: 100 * SOAK },
      );
    });
  },
);
