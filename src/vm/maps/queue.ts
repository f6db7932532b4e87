/** Queue and stack (`kernel/bpf/queue_stack_maps.c`): no keys; push, pop and peek. */
import { BPF_EXIST, E2BIG, EINVAL, ENOENT, type MapHost, type MapSpec, UnkeyedMap } from './map.ts';

export class QueueMap extends UnkeyedMap {
  readonly #values: number;
  #head = 0;
  #count = 0;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.#values = this.allocate(spec.valueSize * spec.maxEntries);
  }

  /** Adds the value; when full, `BPF_EXIST` makes room by dropping the oldest. */
  push(value: number, flags: number): number {
    if (flags !== 0 && flags !== BPF_EXIST) return -EINVAL;
    if (this.#count === this.spec.maxEntries) {
      if (flags !== BPF_EXIST) return -E2BIG;
      this.#head = (this.#head + 1) % this.spec.maxEntries;
      this.#count--;
    }
    this.copyValue(this.#at(this.#count), value);
    this.#count++;
    return 0;
  }

  /** Copies the next value out, without removing it. An empty map zeroes the buffer, as the kernel does. */
  peek(value: number): number {
    if (this.#count === 0) {
      this.host.memory.u8.fill(0, value, value + this.spec.valueSize);
      return -ENOENT;
    }
    this.copyValue(value, this.#at(this.#isStack ? this.#count - 1 : 0));
    return 0;
  }

  pop(value: number): number {
    const result = this.peek(value);
    if (result !== 0) return result;
    if (!this.#isStack) this.#head = (this.#head + 1) % this.spec.maxEntries;
    this.#count--;
    return 0;
  }

  override updateAt(_key: number, value: number, flags: number): number {
    return this.push(value, flags);
  }
  get #isStack(): boolean {
    return this.spec.type === 'BPF_MAP_TYPE_STACK';
  }
  #at(position: number): number {
    return this.#values + ((this.#head + position) % this.spec.maxEntries) * this.spec.valueSize;
  }
}
