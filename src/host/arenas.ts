/**
 * Arenas in this process, of policies and of socket tables. An arena has one user address for its life, and a range that was mapped is
 * free again only once its views have been collected: so each arena is mapped once and kept, and every new one lies
 * elsewhere.
 */
import { randomInt } from 'node:crypto';
import { Arena, type BpfMap, KernelError } from '../kernel/index.ts';

/** Multiples of 4 GiB between what programs and what shared objects are mapped at. */
const FIRST_PLACE = 0x1000;
const PLACES = 0x4000;
const ATTEMPTS = 16;

const mapped = new Map<number, Arena>();

export function createArena(name: string, pages: number): Arena {
  for (let attempt = 1; ; attempt++) {
    const address = BigInt(FIRST_PLACE + randomInt(PLACES)) << 32n;
    try {
      const arena = Arena.create({ name, pages, address });
      mapped.set(arena.map.id, arena);
      return arena;
    } catch (error) {
      const taken = error instanceof KernelError && error.code === 'ARENA_ADDRESS_TAKEN';
      if (!taken || attempt === ATTEMPTS) throw error;
    }
  }
}

/** The arena of a map, mapped by now; takes ownership of the map. */
export function openArena(map: BpfMap): Arena {
  const { id } = map;
  const known = mapped.get(id);
  if (known !== undefined) {
    map.close();
    return known;
  }
  const arena = Arena.open(map, map.extra);
  mapped.set(id, arena);
  return arena;
}

/** Unmaps an arena that has been unloaded; its memory goes when nothing else holds it. */
export function forgetArena(map: BpfMap): void {
  const { id } = map;
  mapped.get(id)?.close();
  mapped.delete(id);
}
