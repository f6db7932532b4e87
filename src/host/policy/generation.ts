/** Generations in an arena: finding room for one, reading and moving the counters of one (docs/arena.md). */
import {
  ARENA_VERSION,
  alignUp,
  GENERATION_HEADER_SIZE,
  GENERATION_MAGIC,
  GENERATIONS_OFFSET,
  Generation,
  ROOT_ALIGNMENT,
  SURROUNDINGS_HEADER_SIZE,
  Surroundings,
} from '../../compile/index.ts';
import type { Counters } from '../../rules/index.ts';
import { PolicyError } from './error.ts';

/**
 * The generation that runs nothing, so that every packet passes: what a namespace has before its first commit and while
 * its links are taken down. It stays at the first place for the arena's life.
 */
export const OPEN_ROOT: number = GENERATIONS_OFFSET;
const OPEN_SIZE = ROOT_ALIGNMENT;

/** Writes the open generation. */
export function writeOpenGeneration(arena: ArrayBuffer, cpus: number): void {
  const view = new DataView(arena, OPEN_ROOT, OPEN_SIZE);
  view.setUint32(Generation.magic, GENERATION_MAGIC, true);
  view.setUint32(Generation.version, ARENA_VERSION, true);
  view.setUint32(Generation.size, OPEN_SIZE, true);
  view.setUint32(Generation.cpus, cpus, true);
  for (const pointer of [Generation.counters, Generation.baselines, Generation.state])
    view.setUint32(pointer, OPEN_ROOT + GENERATION_HEADER_SIZE, true);
}

/** A generation that a record names. Arenas lie at multiples of 4 GiB, so that pointers are offsets. */
export class LiveGeneration {
  readonly root: number;
  readonly #arena: ArrayBuffer;
  readonly #view: DataView;
  /** Of counters; made at first use, as they never lie elsewhere. */
  #copies: BigUint64Array | undefined;
  #base: BigUint64Array | undefined;

  constructor(arena: ArrayBuffer, root: number) {
    this.root = root;
    this.#arena = arena;
    this.#view = new DataView(arena, root, GENERATION_HEADER_SIZE);
    if (this.#u32(Generation.magic) !== GENERATION_MAGIC) {
      throw new PolicyError(
        'HOST_POLICY_BROKEN',
        `no generation lies at 0x${root.toString(16)}`,
        'remove the policy and apply it again',
      );
    }
  }

  get number(): number {
    return Number(this.#view.getBigUint64(Generation.number, true));
  }

  /** Bytes of the extent in which it lies. */
  get size(): number {
    return this.#u32(Generation.size);
  }

  /** Root of the generation that it is an edit of, in whose extent it lies; its own where it was loaded whole. */
  get extent(): number {
    return this.#u32(Generation.extent);
  }

  /** Root of the generation that it was made of by an edit, and what that changed; absent where it was loaded whole. */
  get edit(): { readonly before: number; readonly note: Uint8Array } | undefined {
    if (this.extent === this.root) return undefined;
    const note = new Uint8Array(this.#arena, this.#u32(Generation.note), this.#u32(Generation.noteSize));
    return { before: this.#u32(Generation.before), note };
  }

  /** Where the surroundings that count lie, and their bytes. */
  get surroundings(): { readonly pointer: number; readonly bytes: Uint8Array } {
    return this.#surroundingsAt(this.#u32(Generation.surroundings));
  }

  /** True while packets may still look at former surroundings. */
  get isChangingSurroundings(): boolean {
    return this.#u32(Generation.formerSurroundings) !== 0;
  }

  /** Lets programs see other surroundings from now on: one store, after the former ones are noted. */
  changeSurroundings(pointer: number): void {
    const words = new Uint32Array(this.#arena, this.root, GENERATION_HEADER_SIZE / 4);
    Atomics.store(words, Generation.formerSurroundings / 4, this.#u32(Generation.surroundings));
    Atomics.store(words, Generation.surroundings / 4, pointer);
  }

  /** After a grace period. */
  endSurroundingsChange(): void {
    this.#view.setUint32(Generation.formerSurroundings, 0, true);
  }

  /** All memory that the generation names: its own, and surroundings that came after it. */
  get extents(): { readonly root: number; readonly size: number }[] {
    const { extent: root, size } = this;
    const later = [this.#u32(Generation.surroundings), this.#u32(Generation.formerSurroundings)]
      .filter((pointer) => pointer !== 0 && (pointer < root || pointer >= root + size))
      .map((pointer) => ({ root: pointer, size: this.#surroundingsAt(pointer).bytes.length }));
    return [{ root, size }, ...later];
  }

  #surroundingsAt(pointer: number): { readonly pointer: number; readonly bytes: Uint8Array } {
    const size = new DataView(this.#arena, pointer, SURROUNDINGS_HEADER_SIZE).getUint32(
      Surroundings.size,
      true,
    );
    return { pointer, bytes: new Uint8Array(this.#arena, pointer, size) };
  }

  /** Program-array index of an attach point's program; 0: nothing runs there. */
  entry(place: number): number {
    return this.#u32(Generation.entries + place * 4);
  }

  /** Packets and bytes of counter `index` since its baseline. */
  counter(index: number): Counters {
    const live = this.#live(index);
    const base = this.#baselines();
    return {
      packets: BigInt.asUintN(64, live.packets - base[index * 2]!),
      bytes: BigInt.asUintN(64, live.bytes - base[index * 2 + 1]!),
    };
  }

  /** Lets counter `index` read as `value` from now on, by its baseline. */
  setCounter(index: number, value: Counters): void {
    const live = this.#live(index);
    const base = this.#baselines();
    base[index * 2] = BigInt.asUintN(64, live.packets - value.packets);
    base[index * 2 + 1] = BigInt.asUintN(64, live.bytes - value.bytes);
  }

  /** Adds to counter `index` by its baseline: what it counts meanwhile is kept. */
  addCounter(index: number, value: Counters): void {
    const base = this.#baselines();
    base[index * 2] = BigInt.asUintN(64, base[index * 2]! - value.packets);
    base[index * 2 + 1] = BigInt.asUintN(64, base[index * 2 + 1]! - value.bytes);
  }

  /** Lets counter `index` have `value` more than it counted itself. */
  startCounter(index: number, value: Counters): void {
    const base = this.#baselines();
    base[index * 2] = BigInt.asUintN(64, -value.packets);
    base[index * 2 + 1] = BigInt.asUintN(64, -value.bytes);
  }

  #live(index: number): Counters {
    this.#copies ??= this.#words(
      Generation.counters,
      (this.#u32(Generation.counterStride) * this.#u32(Generation.cpus)) / 8,
    );
    const words = this.#copies;
    const stride = words.length / this.#u32(Generation.cpus);
    let packets = 0n;
    let bytes = 0n;
    for (let at = index * 2; at < words.length; at += stride) {
      packets += words[at]!;
      bytes += words[at + 1]!;
    }
    return { packets, bytes };
  }

  #baselines(): BigUint64Array {
    this.#base ??= this.#words(Generation.baselines, this.#u32(Generation.counterCount) * 2);
    return this.#base;
  }

  #words(pointer: number, length: number): BigUint64Array {
    return new BigUint64Array(this.#arena, this.#u32(pointer), length);
  }

  #u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

/** Finds room for extents of these sizes between those that are in use. @throws {PolicyError} `HOST_POLICY_FULL` */
export function findRoom(
  arenaBytes: number,
  used: readonly { readonly root: number; readonly size: number }[],
  sizes: readonly number[],
): number[] {
  const taken = [{ root: OPEN_ROOT, size: OPEN_SIZE }, ...used].map(({ root, size }) => ({ root, size }));
  return sizes.map((size) => {
    taken.sort((a, b) => a.root - b.root);
    let at = GENERATIONS_OFFSET;
    for (const extent of taken) {
      if (at + size <= extent.root) break;
      at = Math.max(at, alignUp(extent.root + extent.size, ROOT_ALIGNMENT));
    }
    if (at + size > arenaBytes) {
      throw new PolicyError(
        'HOST_POLICY_FULL',
        `the arena has no room for a generation of ${size} bytes`,
        'use another --policy name for some of the namespaces',
      );
    }
    taken.push({ root: at, size });
    return at;
  });
}
