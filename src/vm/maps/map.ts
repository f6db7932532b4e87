/**
 * What all maps have in common. Semantics and error numbers are those of `kernel/bpf/*map*.c`.
 *
 * A map is used from two sides. Programs pass addresses in the machine's memory and get addresses or negative error
 * numbers back: `lookupAt`, `updateAt`, `deleteAt`. The host passes bytes: `get`, `set`, `remove`, `entries`.
 */
import type { MapType } from '../../isa/index.ts';
import { VmError } from '../error.ts';
import type { LinearMemory, Region } from '../memory.ts';

export const ENOENT = 2;
export const E2BIG = 7;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EOPNOTSUPP = 95;

const ERRNO_NAMES: Readonly<Record<number, string>> = {
  [ENOENT]: 'ENOENT',
  [E2BIG]: 'E2BIG',
  [EBUSY]: 'EBUSY',
  [EEXIST]: 'EEXIST',
  [EINVAL]: 'EINVAL',
  [ENOSPC]: 'ENOSPC',
  [EOPNOTSUPP]: 'EOPNOTSUPP',
};

// Flags of an update.
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

// Flags of a map's creation.
export const BPF_F_NO_PREALLOC = 1;
export const BPF_F_MMAPABLE = 0x400;

/** What a map is to be; names of types are the kernel's. */
export interface MapSpec {
  readonly name: string;
  readonly type: MapType;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of one CPU's value for per-CPU maps. */
  readonly valueSize: number;
  /** Entries; bytes for ring buffers, pages for arenas. */
  readonly maxEntries: number;
  readonly flags?: number;
  /** Shape of the inner maps of a map of maps. */
  readonly inner?: MapSpec;
}

/** What a map needs of its machine. */
export interface MapHost {
  readonly memory: LinearMemory;
  readonly cpus: number;
  /** CPU that the running program is on. */
  readonly cpu: number;
}

export const round8 = (bytes: number): number => (bytes + 7) & ~7;

export abstract class VmMap {
  readonly spec: MapSpec;
  /** What programs hold as the map's address: a small number, never a readable address. */
  readonly handle: number;
  protected readonly host: MapHost;
  readonly #blocks: { address: number; bytes: number }[] = [];
  readonly #regions: Region[] = [];
  /** A key and a value in the machine's memory, for the host's calls. */
  readonly #scratchKey: number;
  readonly #scratchValue: number;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    this.host = host;
    this.spec = spec;
    this.handle = handle;
    this.#scratchKey = this.allocate(Math.max(8, spec.keySize));
    this.#scratchValue = this.allocate(Math.max(8, this.hostValueBytes));
  }

  /** Address of the value of the key at `key`; 0 when there is none. */
  abstract lookupAt(key: number): number;
  /** 0 or a negative error number. */
  abstract updateAt(key: number, value: number, flags: number): number;
  /** 0 or a negative error number. */
  abstract deleteAt(key: number): number;
  /** Keys in use, as bytes. */
  abstract keys(): Iterable<Uint8Array>;

  /** Address of the first value, for direct access by `ld_imm64`; `undefined` where the kernel has none. */
  get directValue(): number | undefined {
    return undefined;
  }
  /** Bytes that the host reads and writes for one key. */
  get hostValueBytes(): number {
    return this.spec.valueSize;
  }
  /** As `lookupAt`, for all the host sees of the value. */
  protected hostLookup(key: number): number {
    return this.lookupAt(key);
  }
  protected hostUpdate(key: number, value: number, flags: number): number {
    return this.updateAt(key, value, flags);
  }

  /** A copy of the value; `undefined` when the key is not there. Per-CPU maps: the values of all CPUs, each rounded up to 8 bytes. */
  get(key: Uint8Array): Uint8Array | undefined {
    const address = this.hostLookup(this.#key(key));
    return address === 0 ? undefined : this.host.memory.copy(address, this.hostValueBytes);
  }

  /** @throws VmError `VM_MAP` with the error number's name (E2BIG full, EEXIST, ENOENT, EINVAL) */
  set(key: Uint8Array, value: Uint8Array, flags: number = BPF_ANY): void {
    if (value.length !== this.hostValueBytes) {
      throw new VmError(
        'VM_MAP',
        `map ${this.spec.name} has values of ${this.hostValueBytes} bytes, not ${value.length}`,
      );
    }
    const at = this.#key(key);
    this.host.memory.u8.set(value, this.#scratchValue);
    this.#check(this.hostUpdate(at, this.#scratchValue, flags), 'update');
  }

  /** @throws VmError `VM_MAP` when the key is not there, or the map cannot lose entries */
  remove(key: Uint8Array): void {
    this.#check(this.deleteAt(this.#key(key)), 'deletion');
  }

  *entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    for (const key of [...this.keys()]) {
      const value = this.get(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** Gives the memory back. The map must not be used any more. */
  dispose(): void {
    for (const region of this.#regions) this.host.memory.removeRegion(region);
    for (const { address, bytes } of this.#blocks) this.host.memory.release(address, bytes);
  }

  protected allocate(bytes: number, align?: number): number {
    const address = this.host.memory.allocate(bytes, align);
    if (align === undefined) this.#blocks.push({ address, bytes });
    return address;
  }
  /** Memory that programs may touch. */
  protected allocateRegion(bytes: number, align?: number): number {
    const address = this.allocate(bytes, align);
    this.#regions.push(this.host.memory.addRegion(`map ${this.spec.name}`, address, bytes, true));
    return address;
  }
  protected copyValue(to: number, from: number): void {
    this.host.memory.u8.copyWithin(to, from, from + this.spec.valueSize);
  }

  #key(key: Uint8Array): number {
    if (key.length !== this.spec.keySize) {
      throw new VmError(
        'VM_MAP',
        `map ${this.spec.name} has keys of ${this.spec.keySize} bytes, not ${key.length}`,
      );
    }
    this.host.memory.u8.set(key, this.#scratchKey);
    return this.#scratchKey;
  }

  #check(result: number, what: string): void {
    if (result >= 0) return;
    throw new VmError(
      'VM_MAP',
      `${what} in map ${this.spec.name}: ${ERRNO_NAMES[-result] ?? `error ${-result}`}`,
    );
  }
}

/** A map that has no keys, or none that programs and host look up. */
export abstract class UnkeyedMap extends VmMap {
  override lookupAt(): number {
    return 0;
  }
  override updateAt(_key: number, _value: number, _flags: number): number {
    return -EINVAL;
  }
  override deleteAt(_key: number): number {
    return -EINVAL;
  }
  override keys(): Iterable<Uint8Array> {
    return [];
  }
}

/** A u32 key as bytes, host order (little endian). */
export function indexKey(index: number): Uint8Array {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, index, true);
  return key;
}
