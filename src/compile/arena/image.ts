/** A generation as bytes: header, state words, counters, tables, laid out for the offset that they will lie at. */
import {
  ADDRESS_TYPE4_SIZE,
  ADDRESS_TYPE6_SIZE,
  AddressType4,
  AddressType6,
  ARENA_VERSION,
  alignUp,
  COUNTER_ALIGNMENT,
  COUNTER_SIZE,
  DEVICE_NAME_SIZE,
  ENTRY_SLOTS,
  GENERATION_HEADER_SIZE,
  GENERATION_MAGIC,
  Generation,
  MAX_ADDRESS_TYPES,
  ROOT_ALIGNMENT,
  STATE_SIZE,
} from './layout.ts';

/** An address or network and what the kernel's local routing says of it. */
export interface AddressType {
  /** 4 or 16 bytes, network order. */
  readonly value: Uint8Array;
  /** Leading bits that count. */
  readonly prefixLength: number;
  /** RTN_* */
  readonly type: number;
  /** ifindex of its device, 0 for none. */
  readonly device: number;
}

/** What the surroundings add to a compiled policy when it becomes a generation of one namespace. */
export interface Surroundings {
  /** Possible CPUs. */
  readonly cpus: number;
  readonly number: bigint;
  /** Program-array index by attach point place; absent: nothing to run. */
  readonly entries: ReadonlyMap<number, number>;
  readonly addresses: readonly AddressType[];
  /** Device names by ifindex. */
  readonly devices: ReadonlyMap<number, string>;
  /** Packets and bytes that counters start with, by counter. */
  readonly carried?: ReadonlyMap<number, { readonly packets: bigint; readonly bytes: bigint }>;
}

/** Bytes that a strategy wants in the extent; `build` is told the arena pointer to their first byte. */
export interface TableImage {
  readonly size: number;
  build(pointer: number): Uint8Array;
}

export interface GenerationImage {
  /** Bytes of the extent. */
  readonly size: number;
  /** The bytes for an extent to whose first byte `root` points, a multiple of ROOT_ALIGNMENT. */
  build(root: number): Uint8Array;
}

/** @throws RangeError more address types than programs look at, or a root that is no multiple of ROOT_ALIGNMENT */
export function generationImage(
  counters: number,
  state: readonly bigint[],
  surroundings: Surroundings,
  tables?: TableImage,
): GenerationImage {
  const { cpus, devices } = surroundings;
  const v4 = sortedAddresses(surroundings.addresses, 4);
  const v6 = sortedAddresses(surroundings.addresses, 16);
  const names = devices.size === 0 ? 0 : Math.max(...devices.keys()) + 1;
  const stride = alignUp(counters * COUNTER_SIZE, COUNTER_ALIGNMENT);
  let end = GENERATION_HEADER_SIZE;
  const take = (bytes: number): number => {
    const at = end;
    end = alignUp(end + bytes, COUNTER_ALIGNMENT);
    return at;
  };
  const at = {
    state: take(state.length * STATE_SIZE),
    addresses4: take(v4.length * ADDRESS_TYPE4_SIZE),
    addresses6: take(v6.length * ADDRESS_TYPE6_SIZE),
    devices: take(names * DEVICE_NAME_SIZE),
    tables: take(tables?.size ?? 0),
    baselines: take(counters * COUNTER_SIZE),
    counters: take(stride * cpus),
  };
  const size = alignUp(end, ROOT_ALIGNMENT);

  const build = (root: number): Uint8Array => {
    if (root % ROOT_ALIGNMENT !== 0)
      throw new RangeError(`root ${root} is not a multiple of ${ROOT_ALIGNMENT}`);
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
    u32(Generation.magic, GENERATION_MAGIC);
    u32(Generation.version, ARENA_VERSION);
    view.setBigUint64(Generation.number, surroundings.number, true);
    u32(Generation.size, size);
    u32(Generation.cpus, cpus);
    u32(Generation.counters, root + at.counters);
    u32(Generation.counterStride, stride);
    u32(Generation.counterCount, counters);
    u32(Generation.baselines, root + at.baselines);
    u32(Generation.state, root + at.state);
    u32(Generation.stateCount, state.length);
    u32(Generation.addresses4, root + at.addresses4);
    u32(Generation.addresses4Count, v4.length);
    u32(Generation.addresses6, root + at.addresses6);
    u32(Generation.addresses6Count, v6.length);
    u32(Generation.devices, root + at.devices);
    u32(Generation.devicesCount, names);
    if (tables !== undefined) {
      u32(Generation.tables, root + at.tables);
      u32(Generation.tablesSize, tables.size);
      bytes.set(tables.build(root + at.tables), at.tables);
    }
    for (const [place, index] of surroundings.entries) {
      if (place < 0 || place >= ENTRY_SLOTS) throw new RangeError(`no attach point has place ${place}`);
      u32(Generation.entries + place * 4, index);
    }
    for (const [index, value] of state.entries()) {
      view.setBigUint64(at.state + index * STATE_SIZE, BigInt.asUintN(64, value), true);
    }
    for (const [index, entry] of v4.entries()) {
      writeAddress(bytes, at.addresses4 + index * ADDRESS_TYPE4_SIZE, entry, AddressType4);
    }
    for (const [index, entry] of v6.entries()) {
      writeAddress(bytes, at.addresses6 + index * ADDRESS_TYPE6_SIZE, entry, AddressType6);
    }
    for (const [index, name] of devices) {
      for (let letter = 0; letter < Math.min(name.length, DEVICE_NAME_SIZE - 1); letter++) {
        bytes[at.devices + index * DEVICE_NAME_SIZE + letter] = name.charCodeAt(letter);
      }
    }
    for (const [counter, { packets, bytes: carried }] of surroundings.carried ?? []) {
      view.setBigUint64(at.baselines + counter * COUNTER_SIZE, BigInt.asUintN(64, -packets), true);
      view.setBigUint64(at.baselines + counter * COUNTER_SIZE + 8, BigInt.asUintN(64, -carried), true);
    }
    return bytes;
  };
  return { size, build };
}

function sortedAddresses(addresses: readonly AddressType[], length: number): AddressType[] {
  const own = addresses.filter((entry) => entry.value.length === length);
  if (own.length > MAX_ADDRESS_TYPES) {
    throw new RangeError(`${own.length} local addresses: programs look at ${MAX_ADDRESS_TYPES}`);
  }
  return own.sort((a, b) => b.prefixLength - a.prefixLength);
}

function writeAddress(
  bytes: Uint8Array,
  offset: number,
  entry: AddressType,
  layout: typeof AddressType4 | typeof AddressType6,
): void {
  for (let index = 0; index < entry.value.length; index++) {
    const bits = Math.min(8, Math.max(0, entry.prefixLength - index * 8));
    const mask = (0xff00 >> bits) & 0xff;
    bytes[offset + layout.value + index] = entry.value[index]! & mask;
    bytes[offset + layout.mask + index] = mask;
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(offset + layout.type, entry.type, true);
  view.setUint32(offset + layout.device, entry.device, true);
}
