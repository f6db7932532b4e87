/** Marks that rules change again and again, and in any order: programs leave the mark that the evaluator leaves. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyShape } from '../support/generate/packets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { compileCase, firstDifference, judgeCase } from '../support/machine-cases.ts';

const RULESETS = process.env.SLUICE_SOAK === '1' ? 5000 : 40;
const CHAINS = ['PREROUTING', 'inner', 'outer'] as const;

const number = fc.oneof(
  fc.constantFrom(0, 1, 2, 0x40000, 0xff0000, 0xffffffff),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const hex = (value: number): string => `0x${value.toString(16)}`;
const change = fc.oneof(
  fc
    .tuple(fc.constantFrom('set-mark', 'or-mark', 'and-mark', 'xor-mark'), number)
    .map(([option, value]) => `--${option} ${hex(value)}`),
  fc
    .tuple(fc.constantFrom('set-mark', 'set-xmark'), number, number)
    .map(([option, value, mask]) => `--${option} ${hex(value)}/${hex(mask)}`),
);

/** Chains that call the ones before them, so that a rule may change the mark more than once. */
const lines = fc
  .array(
    fc.record({
      chain: fc.constantFrom(...CHAINS),
      protocol: fc.constantFrom('', '-p tcp ', '-p udp ', '! -p tcp '),
      target: fc.oneof(
        { weight: 3, arbitrary: change.map((text) => `-j MARK ${text}`) },
        { weight: 1, arbitrary: number.map((value) => `-m mark --mark ${hex(value)}`) },
        { weight: 1, arbitrary: fc.constantFrom('-j inner', '-j outer') },
        { weight: 1, arbitrary: fc.constantFrom('-j ACCEPT', '-j DROP') },
      ),
    }),
    { minLength: 2, maxLength: 12, size: 'max' },
  )
  .map((rules) =>
    rules
      .filter(({ chain, target }) => !(target.startsWith('-j inner') && chain === 'inner'))
      .filter(({ chain, target }) => !(target === '-j outer' && chain !== 'PREROUTING'))
      .map(({ chain, protocol, target }) => `-A ${chain} ${protocol}${target}`),
  );

test.each(['ipv4', 'ipv6'] as const)('%s', (family) => {
  const packet = fc.tuple(anyShape(family), number).map(([shape, mark]) => ({
    bytes: buildPacket(shape),
    inDevice: shape.inDevice,
    outDevice: 'eth1',
    mark,
    packetType: 0,
    waitMs: 0,
  }));
  const property = fc.property(
    lines,
    fc.array(packet, { minLength: 12, maxLength: 12 }),
    (rules, packets) => {
      const chains = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
      const text = [
        '*mangle',
        ...chains.map((chain) => `:${chain} ACCEPT [0:0]`),
        ':inner - [0:0]',
        ':outer - [0:0]',
        ...rules,
        'COMMIT',
        '',
      ].join('\n');
      const judged = judgeCase({ family, group: 'mangle', hook: 0, text, packets })!;
      expect(firstDifference(judged), text).toBeUndefined();
      expect(firstDifference(judged, compileCase(judged, 'classifier')), text).toBeUndefined();
    },
  );
  fc.assert(property, { numRuns: RULESETS });
});
