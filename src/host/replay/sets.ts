/** IP sets in the arena of a replay: one behind the other, after the generation. */
import { randomBytes } from 'node:crypto';
import {
  alignUp,
  createSet,
  ROOT_ALIGNMENT,
  SET_RECORD_SIZE,
  SETS_OFFSET,
  type SetTable,
  setRoom,
} from '../../compile/index.ts';
import type { SetContents, SetElement } from '../../rules/index.ts';

/** Bytes of a comment's place. */
const COMMENT = 1024;

/** Bytes that the sets may take, a multiple of a page. */
export function setsRoom(sets: readonly SetContents[] = []): number {
  const bytes = sets.reduce((sum, { definition, elements }) => {
    const comments = definition.comment ? COMMENT * (elements.length + 32) : 0;
    return sum + setRoom(definition) + comments;
  }, 0);
  return alignUp(bytes, ROOT_ALIGNMENT);
}

export interface MadeSet {
  readonly table: SetTable;
  /** Still to be loaded. */
  readonly elements: readonly SetElement[];
}

/**
 * Makes the sets, empty, each in the slot of its place in the list. `base` is where the arena lies in the buffer; `random64`
 * gives the secrets by which keys find their places.
 */
export function makeSets(
  buffer: ArrayBufferLike,
  base: number,
  used: number,
  sets: readonly SetContents[] = [],
  nowNs: () => bigint = process.hrtime.bigint,
  random64: () => bigint = () => randomBytes(8).readBigUInt64LE(),
): readonly MadeSet[] {
  let end = base + used;
  const memory = {
    buffer,
    nowNs,
    random64,
    allocate(bytes: number): number {
      const at = end;
      end = alignUp(end + bytes, ROOT_ALIGNMENT);
      // Programs find nothing in pages that user space has not touched.
      new Uint8Array(buffer, at, bytes).fill(0);
      return at;
    },
  };
  return sets.map(({ definition, elements }, slot) => {
    const record = base + SETS_OFFSET + slot * SET_RECORD_SIZE;
    return { table: createSet(memory, record, definition, definition.maxelem), elements };
  });
}

/** Makes and loads the sets of an arena whose pointers are offsets. */
export function installSets(buffer: ArrayBufferLike, used: number, sets?: readonly SetContents[]): void {
  for (const { table, elements } of makeSets(buffer, 0, used, sets)) table.load(elements);
}
