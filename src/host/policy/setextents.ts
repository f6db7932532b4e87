/** What the records of IP sets take of an arena. */
import { SET_RECORD_SIZE, SET_SLOTS, SETS_OFFSET, SetRecord } from '../../compile/index.ts';
import type { GenerationDocument } from './document.ts';

/** Offset of a set's record. */
export function recordAt(slot: number): number {
  return SETS_OFFSET + slot * SET_RECORD_SIZE;
}

/** Memory that the records of sets name. */
export function setExtents(arena: ArrayBuffer): { root: number; size: number }[] {
  const view = new DataView(arena);
  const found: { root: number; size: number }[] = [];
  for (let slot = 0; slot < SET_SLOTS; slot++) {
    const record = recordAt(slot);
    if (view.getUint32(record + SetRecord.used, true) === 0) continue;
    for (const [root, size] of [
      [SetRecord.tableRoot, SetRecord.tableSize],
      [SetRecord.commentsRoot, SetRecord.commentsSize],
      [SetRecord.fixedRoot, SetRecord.fixedSize],
    ] as const) {
      const extent = { root: view.getUint32(record + root, true), size: view.getUint32(record + size, true) };
      if (extent.size > 0) found.push(extent);
    }
  }
  return found;
}

/** Frees the records of sets that no live generation knows. After a grace period. */
export function releaseSets(arena: ArrayBuffer, documents: readonly GenerationDocument[]): void {
  const known = new Set(documents.flatMap(({ sets = [] }) => sets.map(({ slot }) => slot)));
  const view = new DataView(arena);
  for (let slot = 0; slot < SET_SLOTS; slot++) {
    if (!known.has(slot)) view.setUint32(recordAt(slot) + SetRecord.used, 0, true);
  }
}
