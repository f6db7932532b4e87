/**
 * tcx (BPF_PROG_TYPE_SCHED_CLS) and cgroup_skb programs: context struct __sk_buff (include/uapi/linux/bpf.h).
 *
 * The packet is read with bpf_skb_load_bytes_relative from the network header, so that devices with and without a link
 * header are alike. Devices come from the sk_buff itself (bpf_cast_to_kern_ctx).
 */
import {
  type Assembler,
  type AttachType,
  type Label,
  type Operand,
  type ProgramType,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R10,
  type Register,
} from '../../isa/index.ts';
import { type AttachPoint, entryIndex, needsAtomicCounters } from '../attach.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import type { Frame } from '../emit/frame.ts';
import type { RuleTag } from '../program.ts';
import type { Answering } from './answer.ts';
import { emitConnectionLookup, LOOKUP_NEEDS } from './connectionlookup.ts';
import { emitConntrackFacts } from './conntrack.ts';
import { emitDeviceName, emitNoDevice } from './device.ts';
import { ETHERTYPE } from './ethertype.ts';
import type { FamilyLabels, HookEmitter, PacketOffset } from './hook.ts';
import { ARPHRD_ETHER, emitSkbLink, emitSkbOwner } from './linkheader.ts';

/** Offsets in struct __sk_buff. */
export const Skb = {
  len: 0,
  pktType: 4,
  mark: 8,
  protocol: 16,
  vlanPresent: 20,
  vlanTci: 24,
  ingressIfindex: 36,
  ifindex: 40,
} as const;

type SkbPoint = AttachPoint & { flavour: 'tcx' | 'cgroup' };

const TCX_NEXT = -1;
const TCX_DROP = 2;
const CGROUP_ALLOW = 1;
const CGROUP_DENY = 0;
const PACKET_OTHERHOST = 3;
const VLAN_VID_MASK = 0xfff;
const BPF_HDR_START_MAC = 0;
const BPF_HDR_START_NET = 1;
const ETH_HLEN = 14;
const ETH_SOURCE = 6;

const PROVIDES: readonly Fact[] = [
  'inDevice',
  'outDevice',
  'inIfindex',
  'outIfindex',
  'mark',
  'packetType',
  'macSource',
  'hasMac',
];

/**
 * tcx egress and cgroup egress come after POST_ROUTING: skb->_nfct is what the chain OUTPUT saw, but for what translation
 * and confirmation have changed. Sockets' cgroup ingress comes after nf_reset_ct().
 */
function connectionFacts({ flavour, direction }: SkbPoint): readonly Fact[] {
  if (direction === 'egress') return ['ctState', 'ctDirection', 'ctMark'];
  return flavour === 'tcx' ? ['ctState'] : [];
}

export class SkbHook implements HookEmitter {
  readonly point: SkbPoint;
  readonly type: ProgramType;
  readonly attachType: AttachType;
  readonly accept: number;
  readonly drop: number;
  readonly provides: ReadonlySet<Fact>;
  readonly keeps = 0;
  readonly lookupNeeds?: readonly Fact[];
  readonly answering?: Answering;
  readonly preemptible: boolean;

  constructor(point: SkbPoint, answering?: Answering) {
    this.point = point;
    this.preemptible = needsAtomicCounters(point);
    if (answering !== undefined) this.answering = answering;
    const ingress = point.direction === 'ingress';
    this.provides = new Set<Fact>([...PROVIDES, ...connectionFacts(point)]);
    if (ingress && point.flavour === 'tcx') this.lookupNeeds = LOOKUP_NEEDS;
    if (point.flavour === 'tcx') {
      this.type = 'BPF_PROG_TYPE_SCHED_CLS';
      this.attachType = ingress ? 'BPF_TCX_INGRESS' : 'BPF_TCX_EGRESS';
      this.accept = TCX_NEXT;
      this.drop = TCX_DROP;
    } else {
      this.type = 'BPF_PROG_TYPE_CGROUP_SKB';
      this.attachType = ingress ? 'BPF_CGROUP_INET_INGRESS' : 'BPF_CGROUP_INET_EGRESS';
      this.accept = CGROUP_ALLOW;
      this.drop = CGROUP_DENY;
    }
  }

  place(asm: Assembler<RuleTag>, to: Register): void {
    asm.mov(to, entryIndex(this.point));
  }

  begin(asm: Assembler<RuleTag>): void {
    asm.mov(R6, R1);
  }

  identity(asm: Assembler<RuleTag>, to: Register): void {
    asm.mov(to, R6).loadMap(R2, 'arena').sub(to, R2);
  }

  cookie(asm: Assembler<RuleTag>, to: Register): void {
    if (this.point.flavour === 'cgroup') {
      asm.mov(R1, R6).call('bpf_get_netns_cookie');
      if (to !== R0) asm.mov(to, R0);
      return;
    }
    // The helper asks the socket, which received packets do not have yet: it would name the first namespace.
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx').loadField('u64', R1, R0, 'sk_buff', 'dev');
    asm.loadField('u64', R1, R1, 'net_device', 'nd_net.net').loadField('u64', to, R1, 'net', 'net_cookie');
  }

  sort(asm: Assembler<RuleTag>, frame: Frame, labels: FamilyLabels): void {
    asm.note('whose frame it is, and its type');
    if (this.point.flavour === 'tcx') this.#passOthers(asm, labels);
    asm.load('u32', R1, R6, Skb.protocol);
    asm.jump('==', R1, ETHERTYPE.ipv4, labels.ipv4).jump('==', R1, ETHERTYPE.ipv6, labels.ipv6);
    if (this.point.flavour === 'tcx') {
      // A tag behind a priority tag: the frame belongs to that VLAN's device, unless it says VLAN 0 once more.
      const tagged = asm.label('inner_tag');
      asm.jump('==', R1, ETHERTYPE.vlan, tagged).jump('!=', R1, ETHERTYPE.qinq, labels.other);
      asm.place(tagged);
      const tci = frame.block('scratch', 8);
      asm.mov(R1, R6).mov(R2, 0).mov(R3, R10).add(R3, tci).mov(R4, 2).mov(R5, BPF_HDR_START_NET);
      asm.call('bpf_skb_load_bytes_relative').jump('!=', R0, 0, labels.malformed);
      asm.load('u16', R1, R10, tci).toBe(R1, 16).and(R1, VLAN_VID_MASK);
      asm.jump('==', R1, 0, labels.malformed);
    }
    asm.goto(labels.other);
  }

  /** What the policy of this device does not concern: frames of VLAN devices, for other hosts, forwarded ones on the way out. */
  #passOthers(asm: Assembler<RuleTag>, labels: FamilyLabels): void {
    const untagged = asm.label('untagged');
    asm.load('u32', R1, R6, Skb.vlanPresent).jump('==', R1, 0, untagged);
    asm.load('u32', R1, R6, Skb.vlanTci).and(R1, VLAN_VID_MASK).jump('!=', R1, 0, labels.other);
    asm.place(untagged);
    if (this.point.direction === 'ingress') {
      asm.load('u32', R1, R6, Skb.pktType).jump('==', R1, PACKET_OTHERHOST, labels.other);
    } else {
      // OUTPUT is for what this host sends: packets on their way through have a device they came in at.
      asm.load('u32', R1, R6, Skb.ingressIfindex).jump('!=', R1, 0, labels.other);
    }
  }

  open(): void {}

  read(
    emission: Emission,
    bytes: Operand,
    place: (register: Register) => void,
    from: PacketOffset,
    short: Label,
  ): void {
    const { asm } = emission;
    if (bytes !== R4) asm.mov(R4, bytes);
    if (from.word === undefined) asm.mov(R2, from.constant);
    else asm.load('u32', R2, R10, from.word);
    if (from.word !== undefined && from.constant !== 0) asm.add(R2, from.constant);
    asm.mov(R1, R6).mov(R5, BPF_HDR_START_NET);
    place(R3);
    asm.call('bpf_skb_load_bytes_relative').jump('!=', R0, 0, short);
  }

  logLink(emission: Emission, record: number): void {
    emission.asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    emitSkbLink(emission, R0, record);
  }

  logOwner(emission: Emission, record: number): void {
    emitSkbOwner(emission, record, (asm) => {
      asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
      return R0;
    });
  }

  facts(emission: Emission): void {
    const { asm, facts } = emission;
    const ingress = this.point.direction === 'ingress';
    const [own, other] = ingress
      ? (['inDevice', 'outDevice'] as const)
      : (['outDevice', 'inDevice'] as const);
    if (facts.has(own)) {
      asm.note('device').mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
      asm.loadField('u64', R1, R0, 'sk_buff', 'dev');
      emitDeviceName(emission, own, R1);
    }
    if (facts.has(other)) emitNoDevice(emission, other);
    const [ownIndex, otherIndex] = ingress
      ? (['inIfindex', 'outIfindex'] as const)
      : (['outIfindex', 'inIfindex'] as const);
    if (facts.has(ownIndex)) {
      asm.load('u32', R1, R6, Skb.ifindex).store('u32', R10, facts.offset(ownIndex), R1);
    }
    if (facts.has(otherIndex)) asm.store('u32', R10, facts.offset(otherIndex), 0);
    if (facts.has('mark')) asm.load('u32', R1, R6, Skb.mark).store('u32', R10, facts.offset('mark'), R1);
    if (facts.has('packetType')) {
      asm.load('u32', R1, R6, Skb.pktType).store('u32', R10, facts.offset('packetType'), R1);
    }
    if (facts.has('hasMac')) this.#macSource(emission);
    if (facts.has('ctState')) this.#connection(emission);
  }

  /** On the way out conntrack has run; at tcx ingress only for what comes by loopback, which keeps its connection. */
  #connection(emission: Emission): void {
    const { asm } = emission;
    asm.note('connection').mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    if (this.lookupNeeds === undefined) {
      emitConntrackFacts(emission, R0);
      return;
    }
    const untouched = asm.label('no_connection_yet');
    const known = asm.label('connection_known');
    emitConntrackFacts(emission, R0, untouched);
    asm.goto(known).place(untouched);
    emitConnectionLookup(emission, 'bpf_skb_ct_lookup');
    asm.place(known);
  }

  #macSource(emission: Emission): void {
    const { asm, facts, frame } = emission;
    const done = asm.label('no_mac');
    const buffer = frame.block('scratch', 8);
    for (const word of [0, 1]) asm.store('u32', R10, facts.offset('macSource', word), 0);
    asm.store('u32', R10, facts.offset('hasMac'), 0);
    // xt_mac.c mac_mt: of other devices, and of those without link headers, nothing of the packet is an address.
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    asm.loadField('u64', R1, R0, 'sk_buff', 'dev').loadField('u16', R1, R1, 'net_device', 'type');
    asm.jump('!=', R1, ARPHRD_ETHER, done);
    asm.loadField('u16', R1, R0, 'sk_buff', 'network_header');
    asm.loadField('u16', R2, R0, 'sk_buff', 'mac_header').sub(R1, R2).jump('s<', R1, ETH_HLEN, done);
    asm.mov(R1, R6).mov(R2, ETH_SOURCE).mov(R3, R10).add(R3, buffer).mov(R4, 6).mov(R5, BPF_HDR_START_MAC);
    asm.call('bpf_skb_load_bytes_relative').jump('!=', R0, 0, done);
    asm.load('u32', R1, R10, buffer).store('u32', R10, facts.offset('macSource', 0), R1);
    asm.load('u16', R1, R10, buffer + 4).store('u32', R10, facts.offset('macSource', 1), R1);
    asm.store('u32', R10, facts.offset('hasMac'), 1);
    asm.place(done);
  }
}

/** Sets the mark of the packet from r1. */
export function emitSetSkbMark(asm: Assembler<RuleTag>): void {
  asm.store('u32', R6, Skb.mark, R1);
}
