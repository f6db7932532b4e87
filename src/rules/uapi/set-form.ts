/** How entries name IP sets: struct xt_set_info, and xt_set_info_v0 of the first revision (uapi/linux/netfilter/xt_set.h). */
import type { SetDirection, SetReference } from '../text/set-reference.ts';
import { AbiErrno, AbiError } from './errno.ts';
import type { PayloadContext } from './payload.ts';

/** IPSET_INVALID_ID: no set. */
export const NO_SET = 0xffff;
/** IPSET_DIM_MAX */
const MAXIMUM_DIMENSIONS = 6;
/** IPSET_INV_MATCH; the bits after it say for each dimension that it is the source. */
const INVERT = 0x1;
/** In the first revision each dimension has a word: IPSET_SRC, IPSET_DST, IPSET_MATCH_INV. */
const Word = { SOURCE: 0x1, DESTINATION: 0x2, INVERT: 0x4 } as const;
const WORDS_AT = 4;

export interface WrittenSet {
  readonly set: SetReference;
  readonly negate: boolean;
}

/** Bytes of one reference, by the layout. */
export const SET_BYTES = { words: 32, bits: 4 } as const;
export type SetLayout = keyof typeof SET_BYTES;

function fail(errno: AbiErrno, message: string): never {
  throw new AbiError(errno, message);
}

/** The set at `at`; `undefined` where none is named. @throws {AbiError} ENOENT, ERANGE */
export function readSet(
  view: DataView,
  at: number,
  layout: SetLayout,
  { sets }: PayloadContext,
): WrittenSet | undefined {
  const number = view.getUint16(at, true);
  if (number === NO_SET) return undefined;
  const name = sets?.nameOf(number) ?? fail(AbiErrno.ENOENT, `there is no set with the number ${number}`);
  const { directions, negate } = layout === 'bits' ? readBits(view, at) : readWords(view, at);
  return { set: { name, directions }, negate };
}

function readBits(view: DataView, at: number): Pick<SetReference, 'directions'> & { negate: boolean } {
  const [dimensions, flags] = [view.getUint8(at + 2), view.getUint8(at + 3)];
  if (dimensions > MAXIMUM_DIMENSIONS) fail(AbiErrno.ERANGE, 'a set has too many dimensions');
  const directions = Array.from(
    { length: dimensions },
    (_, dimension): SetDirection => ((flags & (2 << dimension)) === 0 ? 'dst' : 'src'),
  );
  return { directions, negate: (flags & INVERT) !== 0 };
}

function readWords(view: DataView, at: number): Pick<SetReference, 'directions'> & { negate: boolean } {
  const words = Array.from({ length: MAXIMUM_DIMENSIONS + 1 }, (_, index) =>
    view.getUint32(at + WORDS_AT + 4 * index, true),
  );
  if (words[MAXIMUM_DIMENSIONS] !== 0) fail(AbiErrno.ERANGE, 'a set has too many dimensions');
  const end = words.indexOf(0);
  const directions = words
    .slice(0, end)
    .map((word): SetDirection => ((word & Word.SOURCE) === 0 ? 'dst' : 'src'));
  return { directions, negate: (words[0]! & Word.INVERT) !== 0 };
}

/** Writes a reference over zeroes. @throws {AbiError} ENOENT for a set that is not there */
export function writeSet(
  view: DataView,
  at: number,
  layout: SetLayout,
  written: WrittenSet | undefined,
  { sets }: PayloadContext,
): void {
  if (written === undefined) {
    view.setUint16(at, NO_SET, true);
    return;
  }
  const { set, negate } = written;
  const number = sets?.numberOf(set.name) ?? fail(AbiErrno.ENOENT, `there is no set ${set.name}`);
  view.setUint16(at, number, true);
  if (layout === 'words') {
    for (const [index, direction] of set.directions.entries())
      view.setUint32(
        at + WORDS_AT + 4 * index,
        (direction === 'src' ? Word.SOURCE : Word.DESTINATION) | (negate && index === 0 ? Word.INVERT : 0),
        true,
      );
    return;
  }
  view.setUint8(at + 2, set.directions.length);
  const sources = set.directions.reduce(
    (bits, direction, dimension) => (direction === 'src' ? bits | (2 << dimension) : bits),
    0,
  );
  view.setUint8(at + 3, sources | (negate ? INVERT : 0));
}
