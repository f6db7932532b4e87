/** Making an arena: its header, and every page that programs store into. */
import { ARENA_MAGIC, ARENA_VERSION, ArenaHeader, GENERATIONS_OFFSET, MAX_CPUS } from './layout.ts';

/** The smallest page of any machine. */
const PAGE_SIZE = 4096;

/**
 * Writes the header of a fresh arena. A page of an arena exists once user space has touched it, and what programs
 * store elsewhere is lost, so this touches all of the part before the generations.
 * @throws RangeError when there are more CPUs than hand-over words
 */
export function initializeArena(memory: Uint8Array, cpus: number): void {
  if (cpus > MAX_CPUS) throw new RangeError(`${cpus} CPUs: the arena has hand-over words for ${MAX_CPUS}`);
  for (let page = 0; page < GENERATIONS_OFFSET; page += PAGE_SIZE) memory[page] = 0;
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  view.setUint32(ArenaHeader.magic, ARENA_MAGIC, true);
  view.setUint32(ArenaHeader.version, ARENA_VERSION, true);
  view.setUint32(ArenaHeader.cpus, cpus, true);
  view.setUint32(ArenaHeader.size, memory.byteLength >>> 0, true);
}
