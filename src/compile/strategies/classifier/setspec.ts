/** Descriptions of sets as words of the tables (layout.ts). */
import type { SetKey } from '../../../ir/index.ts';
import { SET_RECORD_SIZE } from '../../arena/layout.ts';
import { setKeyFact } from '../../sets/subject.ts';
import { factPlace } from './facts.ts';
import { SET_PARTS, SetSource } from './layout.ts';

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

/** Low half first. */
export function halves(value: bigint): [number, number] {
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}
