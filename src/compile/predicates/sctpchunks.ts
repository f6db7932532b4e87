/** `--chunk-types`: a walk over the chunks of an SCTP packet (xt_sctp.c match_packet). */

import type { SctpChunksPredicate } from '../../ir/index.ts';
import { type Label, R1, R2, R3, R4, R10 } from '../../isa/index.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { emitInRanges } from './scalar.ts';

export const SCTP_CHUNKS_NEEDS: readonly Fact[] = ['transportOffset', 'length'];

const SCTP_HEADER = 12;
const CHUNK_HEAD = 4;
const LARGEST_TYPE = 255;
/** Types of `all` in one word of the frame. */
const WORD_TYPES = 32;

/**
 * Goes to `unread` when a chunk's head is cut short or its length is 0. The walk ends behind the packet; the kernel's budget
 * for loops is larger than any packet. Uses r0..r5.
 */
export function emitSctpChunks(
  emission: Emission,
  predicate: SctpChunksPredicate,
  fail: Label,
  unread: Label,
): void {
  const { asm, facts, frame } = emission;
  const { match, negate } = predicate;
  const through = asm.label('chunks_through');
  const holds = negate ? fail : through;
  const not = negate ? through : fail;
  const chunk = frame.block('scratch', 8);
  const place = frame.word('chunkPlace');
  const walk = asm.label('chunk_walk');
  const next = asm.label('chunk_next');
  const types = typesOf(predicate);
  const left = match === 'all' ? leftWords(emission, types.length) : [];

  for (const [index, word] of left.entries()) {
    const bits = Math.min(WORD_TYPES, types.length - index * WORD_TYPES);
    asm.store('u32', R10, word, (2 ** bits - 1) | 0);
  }
  asm.load('u32', R1, R10, facts.offset('transportOffset')).add(R1, SCTP_HEADER);
  asm.store('u32', R10, place, R1);
  emitLoopHead(emission, walk);
  // Bytes behind the packet, where a hook has them, are no chunk.
  asm.load('u32', R1, R10, place).add(R1, CHUNK_HEAD);
  asm.load('u32', R2, R10, facts.offset('length')).jump('>', R1, R2, unread);
  emitCopy(emission, chunk, { constant: 0, word: place }, CHUNK_HEAD, unread);
  asm
    .load('u16', R3, R10, chunk + 2)
    .toBe(R3, 16)
    .jump('==', R3, 0, unread);
  asm.add(R3, 3).and(R3, ~3).load('u32', R1, R10, place).add(R3, R1).store('u32', R10, place, R3);
  asm.load('u8', R1, R10, chunk).load('u8', R2, R10, chunk + 1);
  switch (match) {
    case 'any':
      emitSort(emission, predicate, types, { wanted: () => asm.goto(holds), other: next });
      break;
    case 'only':
      emitSort(emission, predicate, types, { wanted: () => asm.goto(next), other: not });
      break;
    case 'all':
      emitTicks(emission, predicate, types, left, next);
      break;
  }
  asm.place(next);
  asm.load('u32', R1, R10, place).load('u32', R2, R10, facts.offset('length')).jump('<', R1, R2, walk);
  if (match === 'any') asm.goto(not);
  for (const word of left) asm.load('u32', R1, R10, word).jump('!=', R1, 0, not);
  if (match !== 'any') asm.goto(holds);
  asm.place(through);
}

function typesOf({ chunkMap }: SctpChunksPredicate): number[] {
  const types = Array.from({ length: LARGEST_TYPE + 1 }, (_, type) => type);
  return types.filter((type) => ((chunkMap[type >> 3]! >> (type & 7)) & 1) === 1);
}

/** Frame words with a bit for each type that is still to come. */
function leftWords({ frame }: Emission, types: number): number[] {
  const words = Math.ceil(types / WORD_TYPES);
  return Array.from({ length: words }, (_, index) => frame.word(`chunksLeft.${index}`));
}

/** Type in r1 and flags in r2: types with flags one by one, the others as ranges. */
function emitSort(
  emission: Emission,
  predicate: SctpChunksPredicate,
  types: readonly number[],
  { wanted, other }: { readonly wanted: () => void; readonly other: Label },
): void {
  const { asm } = emission;
  const flagged = new Set(predicate.flags.map(({ chunk }) => chunk));
  for (const type of types.filter((one) => flagged.has(one))) {
    const another = asm.label('chunk_another');
    asm.jump('!=', R1, type, another);
    emitFlags(emission, predicate, type, other);
    wanted();
    asm.place(another);
  }
  const ranges: [number, number][] = [];
  for (const type of types.filter((one) => !flagged.has(one))) {
    const last = ranges.at(-1);
    if (last?.[1] === type - 1) last[1] = type;
    else ranges.push([type, type]);
  }
  emitInRanges(emission, ranges, LARGEST_TYPE, false, other);
  wanted();
}

/** Takes the type in r1 off those to come, when its flags in r2 fit. */
function emitTicks(
  emission: Emission,
  predicate: SctpChunksPredicate,
  types: readonly number[],
  left: readonly number[],
  next: Label,
): void {
  const { asm } = emission;
  for (const [index, type] of types.entries()) {
    const another = asm.label('chunk_another');
    const word = left[Math.floor(index / WORD_TYPES)]!;
    asm.jump('!=', R1, type, another);
    emitFlags(emission, predicate, type, next);
    asm
      .load('u32', R3, R10, word)
      .and32(R3, ~(1 << (index % WORD_TYPES)))
      .store('u32', R10, word, R3);
    asm.goto(next).place(another);
  }
}

/** Goes to `not` unless the flags in r2 are as the first condition on the type says. Uses r4. */
function emitFlags({ asm }: Emission, { flags }: SctpChunksPredicate, type: number, not: Label): void {
  const wanted = flags.find(({ chunk }) => chunk === type);
  if (wanted === undefined) return;
  asm.mov(R4, R2).and32(R4, wanted.mask).jump('!=', R4, wanted.value, not);
}
