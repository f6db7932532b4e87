/** Arrays (`kernel/bpf/arraymap.c`): keys are indexes below `maxEntries`, every element exists from the beginning. */
import {
  BPF_EXIST,
  BPF_NOEXIST,
  E2BIG,
  EEXIST,
  EINVAL,
  indexKey,
  type MapHost,
  type MapSpec,
  round8,
  VmMap,
} from './map.ts';

export class ArrayMap extends VmMap {
  readonly #stride: number;
  readonly #values: number;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.#stride = round8(spec.valueSize);
    this.#values = this.allocateRegion(this.#stride * spec.maxEntries);
  }

  override get directValue(): number {
    return this.#values;
  }
  override lookupAt(key: number): number {
    const index = this.host.memory.view.getUint32(key, true);
    return index < this.spec.maxEntries ? this.#values + index * this.#stride : 0;
  }
  override updateAt(key: number, value: number, flags: number): number {
    if (flags > BPF_EXIST) return -EINVAL;
    const address = this.lookupAt(key);
    if (address === 0) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    this.copyValue(address, value);
    return 0;
  }
  override deleteAt(_key: number): number {
    return -EINVAL;
  }
  override *keys(): Generator<Uint8Array> {
    for (let index = 0; index < this.spec.maxEntries; index++) yield indexKey(index);
  }
}

/** One array a CPU. Programs see the value of the CPU they run on; the host sees all, one after the other. */
export class PerCpuArrayMap extends VmMap {
  readonly #stride: number;
  readonly #values: number;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.#stride = round8(spec.valueSize);
    this.#values = this.allocateRegion(this.#stride * host.cpus * spec.maxEntries);
  }

  override get hostValueBytes(): number {
    return round8(this.spec.valueSize) * this.host.cpus;
  }
  override lookupAt(key: number): number {
    return this.lookupCpu(key, this.host.cpu);
  }
  /** The value of one CPU; 0 for a CPU that does not exist. */
  lookupCpu(key: number, cpu: number): number {
    const first = this.hostLookup(key);
    return first === 0 || cpu >= this.host.cpus ? 0 : first + cpu * this.#stride;
  }
  protected override hostLookup(key: number): number {
    const index = this.host.memory.view.getUint32(key, true);
    return index < this.spec.maxEntries ? this.#values + index * this.#stride * this.host.cpus : 0;
  }
  override updateAt(key: number, value: number, flags: number): number {
    const fault = this.#fault(key, flags);
    if (fault === 0) this.copyValue(this.lookupAt(key), value);
    return fault;
  }
  protected override hostUpdate(key: number, value: number, flags: number): number {
    const fault = this.#fault(key, flags);
    if (fault === 0) this.host.memory.u8.copyWithin(this.hostLookup(key), value, value + this.hostValueBytes);
    return fault;
  }
  #fault(key: number, flags: number): number {
    if (flags > BPF_EXIST) return -EINVAL;
    if (this.hostLookup(key) === 0) return -E2BIG;
    return flags === BPF_NOEXIST ? -EEXIST : 0;
  }
  override deleteAt(_key: number): number {
    return -EINVAL;
  }
  override *keys(): Generator<Uint8Array> {
    for (let index = 0; index < this.spec.maxEntries; index++) yield indexKey(index);
  }
}
