/**
 * Arenas in this process, of policies and of socket tables. An arena has one user address for its life, and a range that was mapped is
 * free again only once its views have been collected: so each arena is mapped once and kept, and every new one lies
 * elsewhere.
 */
import { randomInt } from 'node:crypto';
import { Arena, BpfMap, KernelError, listIds } from '../kernel/index.ts';

/** Multiples of 4 GiB: above what V8 picks at random (46 bits), below where Linux puts programs and libraries. */
const FIRST_PLACE = 0x4000;
const PLACES = 0x1400;
const ATTEMPTS = 16;

const mapped = new Map<number, Arena>();

export function createArena(name: string, pages: number): Arena {
  const taken = takenAddresses();
  for (let attempt = 1; ; attempt++) {
    const address = BigInt(FIRST_PLACE + randomInt(PLACES)) << 32n;
    if (taken.has(address)) continue;
    try {
      const arena = Arena.create({ name, pages, address });
      mapped.set(arena.map.id, arena);
      return arena;
    } catch (error) {
      const occupied = error instanceof KernelError && error.code === 'ARENA_ADDRESS_TAKEN';
      if (!occupied || attempt === ATTEMPTS) throw error;
    }
  }
}

/** Where the arenas of this machine are mapped: one process may have to see several of them. */
function takenAddresses(): ReadonlySet<bigint> {
  const taken = new Set<bigint>();
  for (const id of listIds('map')) {
    const map = BpfMap.byId(id);
    if (map?.type === 'BPF_MAP_TYPE_ARENA') taken.add(map.extra);
    map?.close();
  }
  return taken;
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
