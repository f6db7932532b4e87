/**
 * Maps of sockets (`net/core/sock_map.c`, `kernel/bpf/reuseport_array.c`): the host puts sockets in, programs look them
 * up. A socket that has been closed is taken out by the host, as the kernel does.
 */
import { VmError } from '../error.ts';
import type { KernelObject } from '../kernel-objects.ts';
import { BPF_EXIST, BPF_NOEXIST, E2BIG, EEXIST, EINVAL, ENOENT, indexKey, VmMap } from './map.ts';

/** SOCKMAP, SOCKHASH and REUSEPORT_SOCKARRAY. */
export class SocketMap extends VmMap {
  readonly #sockets = new Map<string, { readonly key: Uint8Array; readonly socket: KernelObject }>();

  get #isArray(): boolean {
    return this.spec.type !== 'BPF_MAP_TYPE_SOCKHASH';
  }

  /** Stores a socket, a `sock` object. @throws VmError `VM_MAP` with E2BIG, EEXIST or ENOENT */
  put(key: Uint8Array | number, socket: KernelObject, flags = 0): void {
    const bytes = typeof key === 'number' ? indexKey(key) : key;
    const fault = this.#putFault(bytes, flags);
    if (fault !== undefined) throw new VmError('VM_MAP', `update in map ${this.spec.name}: ${fault}`);
    this.#sockets.set(bytes.join(), { key: bytes, socket });
  }

  #putFault(key: Uint8Array, flags: number): string | undefined {
    if (key.length !== this.spec.keySize) return 'EINVAL';
    const present = this.#sockets.has(key.join());
    const full = this.#isArray
      ? index(key) >= this.spec.maxEntries
      : this.#sockets.size >= this.spec.maxEntries;
    if (full && !(present && !this.#isArray)) return 'E2BIG';
    if (flags === BPF_NOEXIST && present) return 'EEXIST';
    if (flags === BPF_EXIST && !present) return 'ENOENT';
    return flags > BPF_EXIST ? 'EINVAL' : undefined;
  }

  /** The socket at a key; `undefined` when there is none. */
  socket(key: Uint8Array | number): KernelObject | undefined {
    return this.#sockets.get((typeof key === 'number' ? indexKey(key) : key).join())?.socket;
  }
  /** The socket at the key at this address. */
  socketAt(key: number): KernelObject | undefined {
    return this.socket(this.host.memory.copy(key, this.spec.keySize));
  }

  /** Takes a socket out wherever it is: it has been closed. */
  forget(socket: KernelObject): void {
    for (const [name, entry] of this.#sockets) if (entry.socket === socket) this.#sockets.delete(name);
  }

  override lookupAt(key: number): number {
    return this.socketAt(key)?.address ?? 0;
  }
  override updateAt(key: number, _value: number, flags: number): number {
    const bytes = this.host.memory.copy(key, this.spec.keySize);
    const fault = this.#putFault(bytes, flags);
    if (fault === 'E2BIG') return -E2BIG;
    if (fault === 'EEXIST') return -EEXIST;
    return fault === 'ENOENT' ? -ENOENT : -EINVAL;
  }
  override deleteAt(key: number): number {
    const bytes = this.host.memory.copy(key, this.spec.keySize);
    if (this.#sockets.delete(bytes.join())) return 0;
    return this.spec.type === 'BPF_MAP_TYPE_SOCKMAP' ? -EINVAL : -ENOENT;
  }
  /** The host reads addresses, as user space reads cookies. */
  override get(key: Uint8Array): Uint8Array | undefined {
    const found = this.socket(key);
    if (found === undefined) return undefined;
    const value = new Uint8Array(this.spec.valueSize);
    new DataView(value.buffer).setUint32(0, found.address, true);
    return value;
  }
  override *keys(): Generator<Uint8Array> {
    for (const { key } of [...this.#sockets.values()]) yield key;
  }
}

function index(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset, 4).getUint32(0, true);
}
