/** A generation as bytes: header, state words, counters, tables, laid out for the offset that they will lie at. */
import {
  ARENA_VERSION,
  alignUp,
  COUNTER_ALIGNMENT,
  COUNTER_SIZE,
  ENTRY_SLOTS,
  GENERATION_HEADER_SIZE,
  GENERATION_MAGIC,
  Generation,
  ROOT_ALIGNMENT,
  STATE_SIZE,
} from './layout.ts';
import { type NetnsTables, surroundingsImage } from './surroundings.ts';

/** What is added to a compiled policy when it becomes a generation of one namespace. */
export interface GenerationParts extends NetnsTables {
  /** Possible CPUs. */
  readonly cpus: number;
  readonly number: bigint;
  /** Program-array index by attach point place; absent: nothing to run. */
  readonly entries: ReadonlyMap<number, number>;
  /** Packets and bytes that counters start with, by counter. */
  readonly carried?: ReadonlyMap<number, { readonly packets: bigint; readonly bytes: bigint }>;
}

/** Bytes that a part wants in the extent; `build` is told the arena pointer to their first byte. */
export interface TableImage {
  readonly size: number;
  build(pointer: number): Uint8Array;
}

export interface GenerationImage {
  /** Bytes of the extent. */
  readonly size: number;
  /** The bytes for an extent to whose first byte `root` points, a multiple of ROOT_ALIGNMENT: all but the room for edits. */
  build(root: number): Uint8Array;
}

/** What a generation has beyond its own rules' needs, for edits. */
export interface EditRoom {
  readonly bytes: number;
  readonly counters: number;
  readonly state: number;
}

/** @throws RangeError a root that is no multiple of ROOT_ALIGNMENT */
export function generationImage(
  counters: number,
  state: readonly bigint[],
  parts: GenerationParts,
  tables?: TableImage,
  room: EditRoom = { bytes: 0, counters: 0, state: 0 },
): GenerationImage {
  const { cpus } = parts;
  const surroundings = surroundingsImage(parts);
  const counterCount = counters + room.counters;
  const stateCount = state.length + room.state;
  const stride = alignUp(counterCount * COUNTER_SIZE, COUNTER_ALIGNMENT);
  let end = GENERATION_HEADER_SIZE;
  const take = (bytes: number): number => {
    const at = end;
    end = alignUp(end + bytes, COUNTER_ALIGNMENT);
    return at;
  };
  const at = {
    state: take(stateCount * STATE_SIZE),
    surroundings: take(surroundings.size),
    tables: take(tables?.size ?? 0),
    baselines: take(counterCount * COUNTER_SIZE),
    counters: take(stride * cpus),
  };
  const roomStart = alignUp(end, ROOT_ALIGNMENT);
  const size = roomStart + alignUp(room.bytes, ROOT_ALIGNMENT);

  const build = (root: number): Uint8Array => {
    if (root % ROOT_ALIGNMENT !== 0)
      throw new RangeError(`root ${root} is not a multiple of ${ROOT_ALIGNMENT}`);
    const bytes = new Uint8Array(roomStart);
    const view = new DataView(bytes.buffer);
    const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
    u32(Generation.magic, GENERATION_MAGIC);
    u32(Generation.version, ARENA_VERSION);
    view.setBigUint64(Generation.number, parts.number, true);
    u32(Generation.size, size);
    u32(Generation.cpus, cpus);
    u32(Generation.counters, root + at.counters);
    u32(Generation.counterStride, stride);
    u32(Generation.counterCount, counterCount);
    u32(Generation.baselines, root + at.baselines);
    u32(Generation.state, root + at.state);
    u32(Generation.stateCount, stateCount);
    u32(Generation.surroundings, root + at.surroundings);
    bytes.set(surroundings.build(root + at.surroundings), at.surroundings);
    u32(Generation.extent, root);
    u32(Generation.roomNext, root + roomStart);
    u32(Generation.roomEnd, root + size);
    u32(Generation.counterNext, counters);
    u32(Generation.stateNext, state.length);
    if (tables !== undefined) {
      u32(Generation.tables, root + at.tables);
      u32(Generation.tablesSize, tables.size);
      bytes.set(tables.build(root + at.tables), at.tables);
    }
    for (const [place, index] of parts.entries) {
      if (place < 0 || place >= ENTRY_SLOTS) throw new RangeError(`no attach point has place ${place}`);
      u32(Generation.entries + place * 4, index);
    }
    for (const [index, value] of state.entries()) {
      view.setBigUint64(at.state + index * STATE_SIZE, BigInt.asUintN(64, value), true);
    }
    for (const [counter, { packets, bytes: carried }] of parts.carried ?? []) {
      view.setBigUint64(at.baselines + counter * COUNTER_SIZE, BigInt.asUintN(64, -packets), true);
      view.setBigUint64(at.baselines + counter * COUNTER_SIZE + 8, BigInt.asUintN(64, -carried), true);
    }
    return bytes;
  };
  return { size, build };
}
