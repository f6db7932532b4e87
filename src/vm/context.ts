/**
 * What a program is given in r1: a structure of the kernel's ABI in the machine's memory, and the packet behind it.
 * Layouts: `include/uapi/linux/bpf.h` (xdp_md, __sk_buff, bpf_sk_lookup), `include/linux/netfilter.h` (bpf_nf_ctx).
 */
import type { ProgramType } from '../isa/index.ts';
import type { KernelObject } from './kernel-objects.ts';
import type { Machine } from './machine.ts';
import type { LinearMemory, Region } from './memory.ts';
import type { Packet } from './packet.ts';

/** A context can be used for many runs; `prepare` is called before each. */
export abstract class Context {
  abstract readonly types: readonly ProgramType[];
  readonly address: number;
  packet: Packet | undefined;
  /** What bpf_cast_to_kern_ctx gives; 0 when the machine has no such structure. */
  kernelAddress = 0;
  /** The `sk_buff` that stands for the packet; 0 where there is none. */
  skbAddress = 0;
  protected readonly machine: Machine;
  readonly #region: Region;

  constructor(machine: Machine, name: string, bytes: number, writable: boolean) {
    this.machine = machine;
    this.address = machine.memory.allocate(bytes);
    this.#region = machine.memory.addRegion(name, this.address, bytes, writable);
  }

  /** Brings the structure in line with the packet: before a run, and when a helper has moved the packet. */
  abstract synchronize(): void;

  dispose(): void {
    this.machine.memory.removeRegion(this.#region);
  }

  /** Contexts are aligned, so words go by index. */
  protected setU32(offset: number, value: number): void {
    this.machine.memory.u32[(this.address + offset) >> 2] = value;
  }
  protected getU32(offset: number): number {
    return this.machine.memory.u32[(this.address + offset) >> 2]!;
  }
}

/** struct xdp_md, 24 bytes. */
export class XdpContext extends Context {
  readonly types = ['BPF_PROG_TYPE_XDP'] as const;
  ingressIfindex = 0;
  rxQueueIndex = 0;
  egressIfindex = 0;
  /** struct xdp_buff, so that programs can walk to the device and its namespace. */
  readonly buffer: KernelObject;
  readonly #rxq: KernelObject;
  // Addresses of the buffer's pointers; their upper halves stay 0.
  readonly #data: number;
  readonly #dataEnd: number;
  readonly #dataMeta: number;

  constructor(machine: Machine, packet: Packet) {
    super(machine, 'context xdp_md', 24, false);
    this.packet = packet;
    this.#rxq = machine.kernel.create('xdp_rxq_info');
    this.buffer = machine.kernel.create('xdp_buff', { rxq: this.#rxq });
    this.kernelAddress = this.buffer.address;
    this.#data = this.buffer.addressOf('data');
    this.#dataEnd = this.buffer.addressOf('data_end');
    this.#dataMeta = this.buffer.addressOf('data_meta');
  }
  /** The device that the packet came in by, as a net_device. */
  setDevice(device: KernelObject | undefined): this {
    this.#rxq.set('dev', device);
    if (device !== undefined) this.ingressIfindex = Number(device.get('ifindex'));
    return this;
  }
  override synchronize(): void {
    const packet = this.packet!;
    this.setU32(0, packet.data);
    this.setU32(4, packet.end);
    this.setU32(8, packet.meta);
    this.setU32(12, this.ingressIfindex);
    this.setU32(16, this.rxQueueIndex);
    this.setU32(20, this.egressIfindex);
    const { view } = this.machine.memory;
    view.setUint32(this.#data, packet.data, true);
    view.setUint32(this.#dataEnd, packet.end, true);
    view.setUint32(this.#dataMeta, packet.meta, true);
  }
}

/** Fields of `__sk_buff` that the host sets before a run. */
export interface SkbFields {
  readonly pktType?: number;
  readonly mark?: number;
  readonly queueMapping?: number;
  /** Ethertype in network order, as a little-endian load sees it. */
  readonly protocolBe?: number;
  readonly vlanTci?: number;
  /** Network order. */
  readonly vlanProtoBe?: number;
  readonly priority?: number;
  readonly ingressIfindex?: number;
  readonly ifindex?: number;
  readonly hash?: number;
}

/** struct __sk_buff, 192 bytes. */
export class SkbContext extends Context {
  readonly types = [
    'BPF_PROG_TYPE_SCHED_CLS',
    'BPF_PROG_TYPE_CGROUP_SKB',
    'BPF_PROG_TYPE_SOCKET_FILTER',
  ] as const;
  readonly skb: KernelObject;
  readonly #places: SkbPlaces;
  readonly #mark: number;
  readonly #priority: number;

  constructor(machine: Machine, packet: Packet) {
    super(machine, 'context __sk_buff', 192, true);
    this.packet = packet;
    this.skb = machine.kernel.create('sk_buff');
    this.kernelAddress = this.skb.address;
    this.skbAddress = this.skb.address;
    this.#places = new SkbPlaces(this.skb);
    this.#mark = this.skb.addressOf('mark');
    this.#priority = this.skb.addressOf('priority');
  }
  /** Sets the fields; those not named become 0. */
  set(fields: SkbFields): this {
    const { memory } = this.machine;
    memory.u8.fill(0, this.address, this.address + 192);
    this.setU32(4, fields.pktType ?? 0);
    this.setU32(8, fields.mark ?? 0);
    this.setU32(12, fields.queueMapping ?? 0);
    this.setU32(16, fields.protocolBe ?? 0);
    this.setU32(20, fields.vlanProtoBe === undefined ? 0 : 1);
    this.setU32(24, fields.vlanTci ?? 0);
    this.setU32(28, fields.vlanProtoBe ?? 0);
    this.setU32(32, fields.priority ?? 0);
    this.setU32(36, fields.ingressIfindex ?? 0);
    this.setU32(40, fields.ifindex ?? 0);
    this.setU32(68, fields.hash ?? 0);
    return this;
  }
  get mark(): number {
    return this.getU32(8);
  }
  get priority(): number {
    return this.getU32(32);
  }
  get ifindex(): number {
    return this.getU32(40);
  }
  override synchronize(): void {
    const packet = this.packet!;
    this.setU32(0, packet.length);
    this.setU32(76, packet.data);
    this.setU32(80, packet.end);
    this.setU32(140, packet.meta);
    this.setU32(160, packet.length);
    const { memory } = this.machine;
    this.#places.synchronize(memory, packet);
    memory.view.setUint32(this.#mark, this.mark, true);
    memory.view.setUint32(this.#priority, this.priority, true);
  }
}

/** Keeps the headers' places in a `struct sk_buff` in line with the packet. Addresses are looked up once. */
class SkbPlaces {
  readonly #head: number;
  readonly #data: number;
  readonly #length: number;
  readonly #networkHeader: number;
  readonly #macHeader: number;

  constructor(skb: KernelObject) {
    this.#head = skb.addressOf('head');
    this.#data = skb.addressOf('data');
    this.#length = skb.addressOf('len');
    this.#networkHeader = skb.addressOf('network_header');
    this.#macHeader = skb.addressOf('mac_header');
  }
  synchronize({ view }: LinearMemory, packet: Packet): void {
    const offset = packet.data - packet.hardStart;
    view.setUint32(this.#head, packet.hardStart, true);
    view.setUint32(this.#data, packet.data, true);
    view.setUint32(this.#length, packet.length, true);
    view.setUint16(this.#networkHeader, offset + packet.networkOffset, true);
    // 0xffff: not set, as for packets that this host makes.
    view.setUint16(this.#macHeader, packet.hasLinkHeader ? offset - packet.linkHeaderBytes : 0xffff, true);
  }
}

/** struct bpf_nf_ctx, 16 bytes: pointers to a nf_hook_state and a sk_buff. */
export class NetfilterContext extends Context {
  readonly types = ['BPF_PROG_TYPE_NETFILTER'] as const;
  /** Set hook, pf, in, out, sk and net here. */
  readonly state: KernelObject;
  /** Set dev, mark, protocol (network order) and _nfct here; the headers' places follow the packet. */
  readonly skb: KernelObject;
  readonly #places: SkbPlaces;

  constructor(machine: Machine, packet: Packet) {
    super(machine, 'context bpf_nf_ctx', 16, false);
    this.packet = packet;
    this.state = machine.kernel.create('nf_hook_state');
    this.skb = machine.kernel.create('sk_buff');
    this.kernelAddress = this.address;
    this.skbAddress = this.skb.address;
    this.#places = new SkbPlaces(this.skb);
    machine.memory.writeU64(this.address, BigInt(this.state.address));
    machine.memory.writeU64(this.address + 8, BigInt(this.skb.address));
  }
  override synchronize(): void {
    this.#places.synchronize(this.machine.memory, this.packet!);
  }
}

/** What a socket look-up is for. Addresses in network order, 4 or 16 bytes; ports as numbers. */
export interface SocketLookup {
  readonly protocol: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  readonly localAddress: Uint8Array;
  readonly localPort: number;
  readonly ingressIfindex?: number;
}

/** struct bpf_sk_lookup, 72 bytes. */
export class SkLookupContext extends Context {
  readonly types = ['BPF_PROG_TYPE_SK_LOOKUP'] as const;
  /** The selected socket's address; 0 when none is. */
  selected = 0;
  noReuseport = false;

  constructor(machine: Machine) {
    super(machine, 'context bpf_sk_lookup', 72, false);
  }
  /** A new look-up; forgets the selection. */
  set(lookup: SocketLookup): this {
    const { memory } = this.machine;
    const at = this.address;
    memory.u8.fill(0, at, at + 72);
    const v6 = lookup.localAddress.length === 16;
    memory.view.setUint32(at + 8, v6 ? 10 : 2, true);
    memory.view.setUint32(at + 12, lookup.protocol, true);
    memory.u8.set(lookup.remoteAddress, at + (v6 ? 20 : 16));
    memory.view.setUint16(at + 36, lookup.remotePort, false);
    memory.u8.set(lookup.localAddress, at + (v6 ? 44 : 40));
    memory.view.setUint32(at + 60, lookup.localPort, true);
    memory.view.setUint32(at + 64, lookup.ingressIfindex ?? 0, true);
    this.select(0, false);
    return this;
  }
  select(socket: number, noReuseport: boolean): void {
    this.selected = socket;
    this.noReuseport = noReuseport;
    this.machine.memory.writeU64(this.address, BigInt(socket));
  }
  override synchronize(): void {}
}
