/** BPF maps: bpf(2) MAP_* commands, kernel/bpf/syscall.c. Keys and values are bytes in the program's own layout. */
import { readFileSync } from 'node:fs';
import { MAP_TYPES, type MapType, nameOf } from '../../isa/index.ts';
import { driver } from '../ffi/index.ts';
import { attr, BpfCommand, type BpfCommandName, bpf, bpfError, MapFlag, UpdateFlag } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { mapInfo, objectInfo, openById } from '../sys/info.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { Mapping, pageSize } from '../sys/mapping.ts';
import { trySyscall } from '../sys/syscall.ts';

export interface MapSpec {
  readonly type: MapType;
  /** At most 15 bytes of `[A-Za-z0-9_.]`; shown by every tool. */
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** `MapFlag` bits. */
  readonly flags?: number;
  /** Template of the inner maps, for ARRAY_OF_MAPS and HASH_OF_MAPS. */
  readonly innerMap?: BpfMap;
  /** Type-dependent word: the user address of an arena. */
  readonly extra?: bigint;
}

/** A key: its bytes, or an index for maps whose key is a u32. */
export type MapKey = Uint8Array | number;
/** A value: its bytes, or a u32 (a file descriptor, a small counter) for maps whose value is 4 bytes. */
export type MapValue = Uint8Array | number;

/** A map type by its kernel name; `BPF_MAP_TYPE_<number>` for one that is newer than this package. */
export type MapTypeName = MapType | `BPF_MAP_TYPE_${number}`;

export interface MapDescription {
  readonly id: number;
  readonly type: MapTypeName;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly extra: bigint;
}

const perCpuTypes: ReadonlySet<MapTypeName> = new Set<MapTypeName>([
  'BPF_MAP_TYPE_PERCPU_HASH',
  'BPF_MAP_TYPE_PERCPU_ARRAY',
  'BPF_MAP_TYPE_LRU_PERCPU_HASH',
  'BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE',
]);

export class BpfMap {
  readonly fd: Fd;
  readonly type: MapTypeName;
  readonly name: string;
  readonly keySize: number;
  /** Bytes of one value as the program sees it. */
  readonly valueSize: number;
  /** Bytes of a value as bpf(2) moves it: for per-CPU maps one value, padded to 8 bytes, for each possible CPU. */
  readonly transferSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly extra: bigint;

  // One attribute with fixed key and value buffers: an element call allocates nothing but its result.
  readonly #key: Uint8Array;
  readonly #value: Uint8Array;
  readonly #attr: DataView;
  /** Addresses for the attribute; 0 where the map has no keys (queues), which the kernel insists on. */
  readonly #keyAddress: bigint;
  readonly #valueAddress: bigint;

  private constructor(fd: Fd, shape: Omit<MapDescription, 'id'>) {
    this.fd = fd;
    this.type = shape.type;
    this.name = shape.name;
    this.keySize = shape.keySize;
    this.valueSize = shape.valueSize;
    this.maxEntries = shape.maxEntries;
    this.flags = shape.flags;
    this.extra = shape.extra;
    this.transferSize = perCpuTypes.has(shape.type)
      ? Math.ceil(shape.valueSize / 8) * 8 * possibleCpus()
      : shape.valueSize;
    this.#key = new Uint8Array(Math.max(8, shape.keySize));
    this.#value = new Uint8Array(Math.max(8, shape.keySize, this.transferSize));
    this.#attr = new DataView(new ArrayBuffer(attr.element.size));
    this.#keyAddress = shape.keySize === 0 ? 0n : driver().addressOf(this.#key);
    this.#valueAddress = driver().addressOf(this.#value);
  }

  /** Creates a map. @throws {SyscallError} with the errno of MAP_CREATE */
  static create(spec: MapSpec): BpfMap {
    checkName(spec.name);
    const flags = spec.flags ?? 0;
    const extra = spec.extra ?? 0n;
    const { result } = bpf(
      'MAP_CREATE',
      attr.mapCreate,
      {
        mapType: MAP_TYPES[spec.type],
        keySize: spec.keySize,
        valueSize: spec.valueSize,
        maxEntries: spec.maxEntries,
        mapFlags: flags,
        innerMapFd: spec.innerMap?.fd.number,
        mapName: spec.name,
        mapExtra: extra,
      },
      `creating map "${spec.name}"`,
    );
    const fd = new Fd(result, `map "${spec.name}"`);
    // Read back: the kernel rounds the sizes of ring buffers and arenas.
    return closeOnError(fd, () => BpfMap.fromFd(fd));
  }

  /** Takes ownership of a map descriptor. */
  static fromFd(fd: Fd): BpfMap {
    return new BpfMap(fd, describeMap(fd));
  }

  /** The map with this id, `undefined` when there is none. */
  static byId(id: number): BpfMap | undefined {
    const fd = openById('map', id);
    return fd === undefined ? undefined : closeOnError(fd, () => BpfMap.fromFd(fd));
  }

  describe(): MapDescription {
    return describeMap(this.fd);
  }

  get id(): number {
    return this.describe().id;
  }

  /** The value, or `undefined` when the key is absent. Per-CPU maps: all CPUs' values, one after the other. */
  lookup(key: MapKey): Uint8Array | undefined {
    this.#setKey(key);
    const result = this.#call(BpfCommand.MAP_LOOKUP_ELEM, this.#keyAddress, this.#valueAddress);
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0) throw this.#error('MAP_LOOKUP_ELEM', result, 'looking up a key');
    return this.#value.slice(0, this.transferSize);
  }

  /** Removes and returns a value; queues and stacks (key size 0) pop. */
  take(key: MapKey): Uint8Array | undefined {
    this.#setKey(key);
    const result = this.#call(BpfCommand.MAP_LOOKUP_AND_DELETE_ELEM, this.#keyAddress, this.#valueAddress);
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0) throw this.#error('MAP_LOOKUP_AND_DELETE_ELEM', result, 'taking a key');
    return this.#value.slice(0, this.transferSize);
  }

  /**
   * Stores a value. `flag`: BPF_ANY (default), BPF_NOEXIST, BPF_EXIST.
   * @throws {SyscallError} EEXIST, ENOENT (flags), E2BIG (full; index beyond an array), EPERM (frozen)
   */
  update(key: MapKey, value: MapValue, flag: number = UpdateFlag.BPF_ANY): void {
    this.#setKey(key);
    this.#setValue(value);
    const result = this.#call(BpfCommand.MAP_UPDATE_ELEM, this.#keyAddress, this.#valueAddress, BigInt(flag));
    if (result < 0) throw this.#error('MAP_UPDATE_ELEM', result, 'storing a value');
  }

  /** True when the key was there. Array elements cannot be deleted (EINVAL), the slots of fd arrays can. */
  delete(key: MapKey): boolean {
    this.#setKey(key);
    const result = this.#call(BpfCommand.MAP_DELETE_ELEM, this.#keyAddress, 0n);
    if (result === -Errno.ENOENT) return false;
    if (result < 0) throw this.#error('MAP_DELETE_ELEM', result, 'deleting a key');
    return true;
  }

  /** The key after `key` in the map's own order; the first one without `key` or when `key` is gone. */
  nextKey(key?: MapKey): Uint8Array | undefined {
    if (key !== undefined) this.#setKey(key);
    const result = this.#call(
      BpfCommand.MAP_GET_NEXT_KEY,
      key === undefined ? 0n : this.#keyAddress,
      this.#valueAddress,
    );
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0) throw this.#error('MAP_GET_NEXT_KEY', result, 'walking the keys');
    return this.#value.slice(0, this.keySize);
  }

  /**
   * Walks all keys. Others may change the map meanwhile: a hash map that loses the key just seen restarts, so the walk is
   * bounded by twice the map's capacity.
   */
  *keys(): Generator<Uint8Array> {
    let key = this.nextKey();
    for (let seen = 0; key !== undefined && seen <= 2 * this.maxEntries; seen++) {
      yield key;
      key = this.nextKey(key);
    }
  }

  /** Walks all pairs; keys that vanish during the walk are left out. */
  *entries(): Generator<readonly [key: Uint8Array, value: Uint8Array]> {
    for (const key of this.keys()) {
      const value = this.lookup(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** From now on bpf(2) can no longer change the map; programs can, unless BPF_F_RDONLY_PROG. */
  freeze(): void {
    bpf('MAP_FREEZE', attr.freeze, { mapFd: this.fd.number }, `freezing ${this.fd.label}`);
  }

  /**
   * Maps the values of a BPF_F_MMAPABLE array. Element `i` lies at `i * roundUp(valueSize, 8)`.
   * @throws {KernelArgumentError} for a map that cannot be mapped
   */
  mmap(): Mapping {
    if ((this.flags & MapFlag.BPF_F_MMAPABLE) === 0) {
      throw new KernelArgumentError(`${this.fd.label} cannot be mapped`, 'create it with BPF_F_MMAPABLE');
    }
    const page = pageSize();
    const bytes = Math.ceil((Math.ceil(this.valueSize / 8) * 8 * this.maxEntries) / page) * page;
    return new Mapping({ fd: this.fd.number, length: bytes, label: this.fd.label });
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #setKey(key: MapKey): void {
    if (typeof key === 'number') {
      if (this.keySize !== 4) throw this.#sizeError('key', this.keySize, 4);
      new DataView(this.#key.buffer).setUint32(0, key, true);
    } else {
      if (key.length !== this.keySize) throw this.#sizeError('key', this.keySize, key.length);
      this.#key.set(key);
    }
  }

  #setValue(value: MapValue): void {
    if (typeof value === 'number') {
      if (this.transferSize !== 4) throw this.#sizeError('value', this.transferSize, 4);
      new DataView(this.#value.buffer).setUint32(0, value, true);
    } else {
      if (value.length !== this.transferSize) throw this.#sizeError('value', this.transferSize, value.length);
      this.#value.set(value);
    }
  }

  /** Each command wants the fields that it does not use to be zero. */
  #call(command: number, key: bigint, value: bigint, flags = 0n): number {
    const view = this.#attr;
    const { mapFd, key: keyField, value: valueField, flags: flagsField } = attr.element.fields;
    view.setUint32(mapFd[0], this.fd.number, true);
    view.setBigUint64(keyField[0], key, true);
    view.setBigUint64(valueField[0], value, true);
    view.setBigUint64(flagsField[0], flags, true);
    const result = trySyscall('bpf', command, view, view.byteLength);
    keepAlive(this);
    return result;
  }

  #sizeError(part: string, wanted: number, got: number): KernelArgumentError {
    return new KernelArgumentError(`${this.fd.label}: a ${part} has ${wanted} bytes, got ${got}`);
  }

  #error(command: BpfCommandName, result: number, what: string): Error {
    return bpfError(command, -result, `${what} in ${this.fd.label}`);
  }
}

function describeMap(fd: Fd): MapDescription {
  const info = objectInfo(fd.number, mapInfo, fd.label);
  return { ...info, type: nameOf(MAP_TYPES, info.type) ?? `BPF_MAP_TYPE_${info.type}` };
}

/** Names that the kernel accepts for maps and programs (bpf_obj_name_cpy). */
export function checkName(name: string): void {
  if (!/^[A-Za-z0-9_.]{0,15}$/.test(name)) {
    throw new KernelArgumentError(
      `"${name}" is no name for a BPF object`,
      'at most 15 characters out of letters, digits, underscore and dot',
    );
  }
}

let cpus: number | undefined;

/** Number of possible CPUs: how many values an element of a per-CPU map has. */
export function possibleCpus(): number {
  cpus ??= parseCpuList(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
  return cpus;
}

/** Length of a CPU list such as "0-3,8"; values are indexed up to the highest CPU, holes included. */
function parseCpuList(text: string): number {
  const last = text.trim().split(/[,-]/).at(-1);
  return Number(last) + 1;
}
