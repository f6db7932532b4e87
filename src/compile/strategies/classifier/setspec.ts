/** Descriptions of sets, and of what rules do with them, as words of the tables (layout.ts). */
import type { Action, SetKey } from '../../../ir/index.ts';
import { SET_RECORD_SIZE } from '../../arena/layout.ts';
import { setKeyFact } from '../../sets/subject.ts';
import { factPlace } from './facts.ts';
import { SET_CHANGE_SIZE, SET_PARTS, SetChange, SetSource, SetSpec } from './layout.ts';

const NS_PER_SEC = 1_000_000_000n;

/** The words of a SetSpec. */
export function setSpec({ slot, words }: SetKey): number[] {
  const sources = words.map(({ from, word }) => {
    // Any fact: the set's mask of that word is 0.
    if (from === 'lengths') return 0;
    const { fact, part } = setKeyFact(from);
    const first = word === 0 && part !== undefined ? SET_PARTS.indexOf(part) + 1 : 0;
    return (factPlace(fact) + word) | (first << SetSource.partShift);
  });
  return [slot * SET_RECORD_SIZE, ...sources];
}

/** The words of a SetChange of one set each. */
export function setChange({ add, remove }: Extract<Action, { kind: 'set' }>): Uint32Array {
  const words = new Uint32Array(SET_CHANGE_SIZE / 4);
  const timeoutSec = add?.timeoutSec;
  words[SetChange.flags / 4] =
    (add === undefined ? 0 : SetChange.adds) |
    (remove === undefined ? 0 : SetChange.removes) |
    (add?.exist === true ? SetChange.exist : 0) |
    (timeoutSec === undefined ? 0 : SetChange.hasTimeout);
  words.set(halves(BigInt(timeoutSec ?? 0) * NS_PER_SEC), SetChange.timeoutNs / 4);
  if (add !== undefined) words.set(setSpec(add.keys[0]!), (SetChange.add + SetSpec.record) / 4);
  if (remove !== undefined) words.set(setSpec(remove.keys[0]!), (SetChange.remove + SetSpec.record) / 4);
  return words;
}

/** Low half first. */
export function halves(value: bigint): [number, number] {
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}
