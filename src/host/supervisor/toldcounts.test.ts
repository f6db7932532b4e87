import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Counters } from '../../rules/index.ts';
import type { ChainCounts, ChainState } from '../policy/index.ts';
import { ToldCounts } from './toldcounts.ts';

/** Few texts, so that rules say the same; numbers of counters are given by their place. */
const texts = fc.array(fc.constantFrom('-j a', '-j b', '-j c'), { maxLength: 6 });

function chainOf(name: string, lines: readonly string[], counters: readonly number[]): ChainState {
  return {
    family: 'ipv4',
    table: 'filter',
    chain: name,
    policy: '-',
    lines: lines.map((line) => `-A ${name} ${line}`),
    counters: [...counters],
    policyCounter: undefined,
    number: 1,
    coded: false,
  };
}

/** Number n has counted n + 1 packets. */
function counted(numbers: readonly number[]): Counters[] {
  return numbers.map((number) => ({ packets: BigInt(number) + 1n, bytes: 0n }));
}

function countsOf({ family, table, chain, counters }: ChainState): ChainCounts {
  return { family, table, chain, rules: counted(counters) };
}

function packets(counts: readonly ChainCounts[]): readonly bigint[] {
  return counts.flatMap(({ rules }) => rules.map((one) => one.packets));
}

test('after edits counters are found by their numbers, whatever the chain is called and the rules say', () => {
  fc.assert(
    fc.property(texts, fc.constantFrom('one', 'two'), fc.array(fc.nat(8)), (lines, name, kept) => {
      const numbers = lines.map((_, index) => index);
      const before = chainOf('one', lines, numbers);
      const told = new ToldCounts([before], [countsOf(before)]);
      // Rules that stay, in any order, and one that has come.
      const stays = [...new Set(kept)].filter((number) => number < lines.length);
      before.counters = [...stays, 99];
      before.chain = name;
      const off = packets(told.takenOff([before], true));
      expect(off).toEqual(lines.length === 0 ? [] : [...stays.map((number) => -BigInt(number) - 1n), 0n]);
    }),
  );
});

test('where all was loaded anew the n-th rule of a text goes on, and nothing else', () => {
  fc.assert(
    fc.property(texts, texts, (lines, fresh) => {
      const before = chainOf(
        'one',
        lines,
        lines.map((_, index) => index),
      );
      const told = new ToldCounts([before], [countsOf(before)]);
      const after = chainOf(
        'one',
        fresh,
        fresh.map((_, index) => 50 + index),
      );
      const left = lines.map((line, index) => ({ line, index }));
      const wanted = fresh.map((line) => {
        const at = left.findIndex((one) => one.line === line);
        return at < 0 ? 0n : -BigInt(left.splice(at, 1)[0]!.index) - 1n;
      });
      expect(packets(told.takenOff([after], false))).toEqual(lines.length === 0 ? [] : wanted);
      const renamed = chainOf('two', fresh, after.counters);
      expect(packets(told.takenOff([renamed], false)).every((one) => one === 0n)).toBe(true);
    }),
  );
});

test('policies keep their counters while they say the same', () => {
  const before: ChainState = { ...chainOf('INPUT', [], []), policy: 'DROP', policyCounter: 3 };
  const policy = { packets: 5n, bytes: 6n };
  const told = new ToldCounts([before], [{ ...countsOf(before), policy }]);
  const off = { packets: -5n, bytes: -6n };
  expect(told.takenOff([before], true)[0]!.policy).toEqual(off);
  expect(told.takenOff([{ ...before, policyCounter: 7 }], false)[0]!.policy).toEqual(off);
  expect(told.takenOff([{ ...before, policyCounter: 7 }], true)[0]!.policy!.packets).toBe(0n);
  expect(told.takenOff([{ ...before, policy: 'ACCEPT', policyCounter: 7 }], false)[0]!.policy!.packets).toBe(
    0n,
  );
});
