/**
 * Random chains that call each other: they are refused as circles when the kernel refuses them (mark_source_chains does not
 * look behind a verdict without conditions), and what it takes runs the same in the evaluator and in both forms of programs.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { iptablesMissing, restore } from '../support/iptables.ts';
import { type CasePacket, compileCase, firstDifference, judgeCase } from '../support/machine-cases.ts';

const GRAPHS = process.env.SLUICE_SOAK === '1' ? 2000 : 40;
const CHAINS = ['INPUT', 'OUTPUT', 'one', 'two', 'three', 'four'] as const;
const USER_CHAINS = CHAINS.slice(2);
const CALLS = USER_CHAINS.flatMap((name) => [`-j ${name}`, `-g ${name}`]);
const VERDICTS = ['-j ACCEPT', '-j DROP', '-j RETURN'];
const INPUT = 1;

/** Conditions of the kernel's eyes and not: the empty ones are no conditions where they leave the entry all zero. */
const CONDITIONS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: [
    '-s 10.0.0.0/8',
    '! -s 10.0.0.0/8',
    '-s 0.0.0.0/0',
    '-p all',
    '-i +',
    '-m comment --comment x',
    '-f',
  ],
  ipv6: ['-s fd00::/8', '! -s fd00::/8', '-s ::/0', '-p all', '-i +', '-m comment --comment x'],
};

const ruleOf = (family: Family): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.oneof(
        { weight: 3, arbitrary: fc.constant('') },
        { weight: 2, arbitrary: fc.constantFrom(...CONDITIONS[family]) },
      ),
      fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom(...CALLS) },
        { weight: 3, arbitrary: fc.constantFrom(...VERDICTS) },
        { weight: 1, arbitrary: fc.constantFrom('', '-j REJECT', '-j LOG') },
      ),
    )
    .map((parts) => parts.filter(Boolean).join(' '));

/** Device conditions are of the hook that a packet comes in at; only INPUT and user chains of it may have them. */
const ruleset = (family: Family): fc.Arbitrary<string> =>
  fc
    .array(fc.tuple(fc.constantFrom(...CHAINS), ruleOf(family)), { minLength: 4, maxLength: 14 })
    .map((rules) =>
      [
        '*filter',
        ':INPUT ACCEPT [0:0]',
        ':FORWARD ACCEPT [0:0]',
        ':OUTPUT ACCEPT [0:0]',
        ...USER_CHAINS.map((name) => `:${name} - [0:0]`),
        '-A INPUT -j one',
        ...rules
          .filter(([chain, rule]) => chain !== 'OUTPUT' || !rule.includes('-i '))
          .map(([chain, rule]) => `-A ${chain} ${rule}`),
        'COMMIT',
        '',
      ].join('\n'),
    );

const packetFrom = (family: Family, ours: boolean): CasePacket => {
  const bytes = new Uint8Array(family === 'ipv4' ? 28 : 48);
  const source = ours ? 10 : 192;
  if (family === 'ipv4')
    bytes.set([0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, source, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 0, 8]);
  else {
    bytes.set([0x60, 0, 0, 0, 0, 8, 17, 64, ours ? 0xfd : 0x20, 1]);
    bytes[23] = 1;
    bytes.set([0xfd, 1], 24);
    bytes[39] = 2;
    bytes.set([0, 9, 0, 9, 0, 8], 40);
  }
  return { bytes, inDevice: 'eth0', outDevice: '', mark: 0, packetType: 0, waitMs: 0 };
};

describe.skipIf(iptablesMissing !== undefined)(
  `chains that call each other${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    test.each<Family>(['ipv4', 'ipv6'])(
      'are circles where the kernel says so, and run the same, %s',
      (family) => {
        const packets = [packetFrom(family, true), packetFrom(family, false)];
        let refused = 0;
        let ran = 0;
        fc.assert(
          fc.property(ruleset(family), (text) => {
            const { ruleset: parsed, diagnostics } = parseRuleset(text, { file: 'rules', family });
            const errors = diagnostics.filter(({ severity }) => severity === 'error');
            const kernel = restore(text, family);
            const codes = [...new Set(errors.map(({ code }) => code))];
            expect(codes, kernel.message).toEqual(kernel.accepted ? [] : ['CHAIN_LOOP']);
            if (!kernel.accepted) {
              // iptables-restore has no word for ELOOP.
              expect(kernel.message).toMatch(/^ip6?tables-restore: line \d+ failed$/);
              refused += 1;
              return;
            }
            expect(printRuleset(parsed)).toBe(kernel.saved);
            const judged = judgeCase({ family, group: 'filter', hook: INPUT, text, packets })!;
            for (const strategy of ['inline', 'classifier'] as const)
              expect(firstDifference(judged, compileCase(judged, strategy)), strategy).toBeUndefined();
            ran += 1;
          }),
          { numRuns: GRAPHS, endOnFailure: true },
        );
        expect(refused).toBeGreaterThan(0);
        expect(ran).toBeGreaterThan(0);
      },
    );
  },
);
