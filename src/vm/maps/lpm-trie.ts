/**
 * Longest-prefix-match trie (`kernel/bpf/lpm_trie.c`). A key is `u32 prefix length, data`, the data's first byte first.
 * One node for each bit on the way, which is slower to build than the kernel's compressed nodes and answers the same.
 */
import {
  BPF_EXIST,
  BPF_NOEXIST,
  EEXIST,
  EINVAL,
  ENOENT,
  ENOSPC,
  type MapHost,
  type MapSpec,
  round8,
  VmMap,
} from './map.ts';

interface Node {
  zero: Node | undefined;
  one: Node | undefined;
  /** Address of the value; 0 where no prefix ends. */
  value: number;
}

const newNode = (): Node => ({ zero: undefined, one: undefined, value: 0 });

export class LpmTrieMap extends VmMap {
  readonly #maxPrefix: number;
  readonly #stride: number;
  readonly #root: Node = newNode();
  readonly #free: number[] = [];
  #unused: number;
  #count = 0;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.#maxPrefix = (spec.keySize - 4) * 8;
    this.#stride = round8(spec.valueSize);
    this.#unused = this.allocateRegion(this.#stride * spec.maxEntries);
  }

  override lookupAt(key: number): number {
    const length = Math.min(this.host.memory.view.getUint32(key, true), this.#maxPrefix);
    let node: Node | undefined = this.#root;
    let best = 0;
    for (let bit = 0; node !== undefined; bit++) {
      if (node.value !== 0) best = node.value;
      if (bit === length) break;
      node = this.#bit(key, bit) === 0 ? node.zero : node.one;
    }
    return best;
  }

  protected override hostLookup(key: number): number {
    return this.lookupAt(key);
  }

  override updateAt(key: number, value: number, flags: number): number {
    const length = this.host.memory.view.getUint32(key, true);
    if (flags > BPF_EXIST || length > this.#maxPrefix) return -EINVAL;
    const known = this.#exact(key, length);
    if (known !== undefined && known.value !== 0) {
      if (flags === BPF_NOEXIST) return -EEXIST;
      this.copyValue(known.value, value);
      return 0;
    }
    if (this.#count === this.spec.maxEntries) return -ENOSPC;
    if (flags === BPF_EXIST) return -ENOENT;
    let node = this.#root;
    for (let bit = 0; bit < length; bit++) {
      if (this.#bit(key, bit) === 0) node = node.zero ??= newNode();
      else node = node.one ??= newNode();
    }
    node.value = this.#free.pop() ?? this.#take();
    this.#count++;
    this.copyValue(node.value, value);
    return 0;
  }

  override deleteAt(key: number): number {
    const length = this.host.memory.view.getUint32(key, true);
    if (length > this.#maxPrefix) return -EINVAL;
    const path: Node[] = [this.#root];
    for (let bit = 0; bit < length; bit++) {
      const last = path.at(-1)!;
      const next = this.#bit(key, bit) === 0 ? last.zero : last.one;
      if (next === undefined) return -ENOENT;
      path.push(next);
    }
    const node = path.at(-1)!;
    if (node.value === 0) return -ENOENT;
    this.#free.push(node.value);
    node.value = 0;
    this.#count--;
    // Take away the nodes that led only here.
    for (let depth = path.length - 1; depth > 0; depth--) {
      const empty = path[depth]!;
      if (empty.value !== 0 || empty.zero !== undefined || empty.one !== undefined) break;
      const parent = path[depth - 1]!;
      if (parent.zero === empty) parent.zero = undefined;
      else parent.one = undefined;
    }
    return 0;
  }

  override *keys(): Generator<Uint8Array> {
    yield* this.#walk(this.#root, new Uint8Array(this.spec.keySize), 0);
  }

  *#walk(node: Node, key: Uint8Array, length: number): Generator<Uint8Array> {
    if (node.value !== 0) {
      const found = key.slice();
      new DataView(found.buffer).setUint32(0, length, true);
      yield found;
    }
    if (node.zero !== undefined) yield* this.#walk(node.zero, key, length + 1);
    if (node.one !== undefined) {
      const longer = key.slice();
      longer[4 + (length >> 3)]! |= 0x80 >> (length & 7);
      yield* this.#walk(node.one, longer, length + 1);
    }
  }

  #exact(key: number, length: number): Node | undefined {
    let node: Node | undefined = this.#root;
    for (let bit = 0; bit < length && node !== undefined; bit++) {
      node = this.#bit(key, bit) === 0 ? node.zero : node.one;
    }
    return node;
  }
  #bit(key: number, bit: number): number {
    return (this.host.memory.u8[key + 4 + (bit >> 3)]! >> (7 - (bit & 7))) & 1;
  }
  #take(): number {
    const address = this.#unused;
    this.#unused += this.#stride;
    return address;
  }
}
