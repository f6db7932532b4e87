/**
 * Maps whose values stand for objects: maps of maps (`kernel/bpf/map_in_map.c`) and arrays of programs, of events and of
 * devices. Only the host fills them; a value is the object's handle.
 */
import { VmError } from '../error.ts';
import { E2BIG, EINVAL, indexKey, type MapHost, type MapSpec, VmMap } from './map.ts';

/** Anything with a handle. */
export interface HandledObject {
  readonly handle: number;
}

/** Array or hash of objects; a lookup by a program gives the object's handle, 0 when the place is empty. */
export class ObjectMap<T extends HandledObject> extends VmMap {
  readonly #objects = new Map<string, T>();
  readonly #isArray: boolean;
  readonly #accepts: (object: T) => string | undefined;

  /** @param accepts why an object may not be stored; `undefined` when it may */
  constructor(host: MapHost, spec: MapSpec, handle: number, accepts: (object: T) => string | undefined) {
    super(host, spec, handle);
    this.#isArray = spec.type !== 'BPF_MAP_TYPE_HASH_OF_MAPS';
    this.#accepts = accepts;
  }

  /** Stores an object. @throws VmError `VM_MAP` when the key is out of range, the map full, or the object of another shape */
  put(key: Uint8Array | number, object: T): void {
    const bytes = typeof key === 'number' ? indexKey(key) : key;
    const refusal =
      bytes.length === this.spec.keySize ? this.#accepts(object) : `keys have ${this.spec.keySize} bytes`;
    if (refusal !== undefined) throw new VmError('VM_MAP', `map ${this.spec.name}: ${refusal}`);
    const text = bytes.join();
    const full = this.#isArray
      ? this.#index(bytes) >= this.spec.maxEntries
      : !this.#objects.has(text) && this.#objects.size === this.spec.maxEntries;
    if (full) throw new VmError('VM_MAP', `update in map ${this.spec.name}: E2BIG`);
    this.#objects.set(text, object);
  }

  /** The object at a key of the host. */
  object(key: Uint8Array | number): T | undefined {
    return this.#objects.get((typeof key === 'number' ? indexKey(key) : key).join());
  }
  /** The object at the key at this address. */
  objectAt(key: number): T | undefined {
    return this.#objects.get(this.host.memory.u8.subarray(key, key + this.spec.keySize).join());
  }

  override lookupAt(key: number): number {
    return this.objectAt(key)?.handle ?? 0;
  }
  override updateAt(): number {
    return -EINVAL;
  }
  override deleteAt(key: number): number {
    const text = this.host.memory.u8.subarray(key, key + this.spec.keySize).join();
    if (this.#isArray && this.#index(this.host.memory.copy(key, 4)) >= this.spec.maxEntries) return -E2BIG;
    return this.#objects.delete(text) ? 0 : -2;
  }
  /** The host reads handles, as user space reads ids from the kernel. */
  override get(key: Uint8Array): Uint8Array | undefined {
    const found = this.object(key);
    return found === undefined ? undefined : indexKey(found.handle);
  }
  override *keys(): Generator<Uint8Array> {
    for (const text of this.#objects.keys()) yield Uint8Array.from(text.split(','), Number);
  }
  #index(key: Uint8Array): number {
    return new DataView(key.buffer, key.byteOffset, 4).getUint32(0, true);
  }
}
