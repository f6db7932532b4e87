/**
 * XDP programs: context struct xdp_md, an Ethernet frame.
 *
 * r9 is the offset of the network header: 14, or behind priority tags (VLAN 0), which the kernel takes off for the same
 * device. A tag with a VLAN id makes the frame another device's: it passes.
 */
import {
  type Assembler,
  type Label,
  type Operand,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  R9,
  R10,
  type Register,
} from '../../isa/index.ts';
import { LogRecord } from '../actions/log.ts';
import { type AttachPoint, entryIndex, needsAtomicCounters } from '../attach.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import type { Frame } from '../emit/frame.ts';
import type { RuleTag } from '../program.ts';
import type { Answering } from './answer.ts';
import { emitConnectionLookup, LOOKUP_NEEDS } from './connectionlookup.ts';
import { emitDeviceName, emitNoDevice } from './device.ts';
import { ETHERTYPE } from './ethertype.ts';
import type { FamilyLabels, HookEmitter, PacketOffset } from './hook.ts';

const XDP_MD_INGRESS_IFINDEX = 12;
const XDP_DROP = 1;
const XDP_PASS = 2;
const ETH_HLEN = 14;
const ETH_TYPE = 12;
const ETH_SOURCE = 6;
const VLAN_HLEN = 4;
const VLAN_VID_MASK = 0xfff;
/** Priority tags that are looked through; more are malformed. */
const MAX_TAGS = 2;
/** A group bit in the destination address. */
const ETH_GROUP = 1;

const PROVIDES: ReadonlySet<Fact> = new Set<Fact>([
  'inDevice',
  'outDevice',
  'inIfindex',
  'outIfindex',
  'packetType',
  'ctState',
  'macSource',
  'hasMac',
]);

export class XdpHook implements HookEmitter {
  readonly point: AttachPoint & { flavour: 'xdp' } = { flavour: 'xdp' };
  readonly type = 'BPF_PROG_TYPE_XDP';
  readonly attachType = 'BPF_XDP';
  readonly accept: number = XDP_PASS;
  readonly drop: number = XDP_DROP;
  readonly provides: ReadonlySet<Fact> = PROVIDES;
  readonly lookupNeeds: readonly Fact[] = LOOKUP_NEEDS;
  readonly keeps = 0;
  readonly answering: Answering;
  readonly preemptible: boolean = needsAtomicCounters(this.point);

  constructor(answering: Answering) {
    this.answering = answering;
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
    this.#device(asm);
    asm.loadField('u64', R1, R1, 'net_device', 'nd_net.net').loadField('u64', to, R1, 'net', 'net_cookie');
  }

  /** r1 = struct net_device of the frame. Uses r0..r5. */
  #device(asm: Assembler<RuleTag>): void {
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    asm.loadField('u64', R1, R0, 'xdp_buff', 'rxq').loadField('u64', R1, R1, 'xdp_rxq_info', 'dev');
  }

  sort(asm: Assembler<RuleTag>, frame: Frame, labels: FamilyLabels): void {
    const buffer = frame.block('scratch', 16);
    const sorted = asm.label('sorted');
    asm.note('Ethernet type, behind priority tags');
    this.#loadFrame(asm, buffer, ETH_TYPE, 2, labels.malformed);
    asm.load('u16', R1, R10, buffer).mov(R9, ETH_HLEN);
    for (let tag = 0; tag <= MAX_TAGS; tag++) {
      const tagged = asm.label(`tag_${tag}`);
      asm.jump('==', R1, ETHERTYPE.vlan, tagged).jump('!=', R1, ETHERTYPE.qinq, sorted);
      asm.place(tagged);
      if (tag === MAX_TAGS) {
        asm.goto(labels.malformed);
        break;
      }
      this.#loadFrame(asm, buffer, ETH_HLEN + tag * VLAN_HLEN, VLAN_HLEN, labels.malformed);
      asm.load('u16', R1, R10, buffer).toBe(R1, 16).and(R1, VLAN_VID_MASK).jump('!=', R1, 0, labels.other);
      asm.load('u16', R1, R10, buffer + 2).mov(R9, ETH_HLEN + (tag + 1) * VLAN_HLEN);
    }
    asm.place(sorted);
    asm
      .jump('==', R1, ETHERTYPE.ipv4, labels.ipv4)
      .jump('==', R1, ETHERTYPE.ipv6, labels.ipv6)
      .goto(labels.other);
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
    asm.mov(R2, R9);
    if (from.constant !== 0) asm.add(R2, from.constant);
    if (from.word !== undefined) asm.load('u32', R3, R10, from.word).add(R2, R3);
    asm.mov(R1, R6);
    place(R3);
    asm.call('bpf_xdp_load_bytes').jump('!=', R0, 0, short);
  }

  #loadFrame(asm: Assembler<RuleTag>, to: number, offset: number, bytes: number, short: Label): void {
    asm.mov(R1, R6).mov(R2, offset).mov(R3, R10).add(R3, to).mov(R4, bytes);
    asm.call('bpf_xdp_load_bytes').jump('!=', R0, 0, short);
  }

  /** The whole frame is there, a tag included, so no tag was taken out of it. */
  logLink(emission: Emission, record: number): void {
    const { asm } = emission;
    const none = asm.label('link_none');
    this.#device(asm);
    asm.load('u64', R3, R10, record).store('u32', R3, LogRecord.macLength, R9);
    asm.loadField('u16', R2, R1, 'net_device', 'type').store('u32', R3, LogRecord.deviceType, R2);
    asm.store('u32', R3, LogRecord.linkLength, ETH_HLEN).add(R3, LogRecord.link);
    asm.mov(R1, R6).mov(R2, 0).mov(R4, ETH_HLEN).call('bpf_xdp_load_bytes').jump('==', R0, 0, none);
    asm.load('u64', R3, R10, record).store('u32', R3, LogRecord.linkLength, 0);
    asm.place(none);
  }

  facts(emission: Emission): void {
    const { asm, facts, frame } = emission;
    if (facts.has('inDevice')) {
      asm.note('device');
      this.#device(asm);
      emitDeviceName(emission, 'inDevice', R1);
    }
    if (facts.has('outDevice')) emitNoDevice(emission, 'outDevice');
    if (facts.has('inIfindex')) {
      asm.load('u32', R1, R6, XDP_MD_INGRESS_IFINDEX).store('u32', R10, facts.offset('inIfindex'), R1);
    }
    if (facts.has('outIfindex')) asm.store('u32', R10, facts.offset('outIfindex'), 0);
    const buffer = frame.block('scratch', 16);
    if (facts.has('hasMac')) {
      this.#loadFrame(asm, buffer, ETH_SOURCE, 6, emission.labels.malformed);
      asm.load('u32', R1, R10, buffer).store('u32', R10, facts.offset('macSource', 0), R1);
      asm.load('u16', R1, R10, buffer + 4).store('u32', R10, facts.offset('macSource', 1), R1);
      asm.store('u32', R10, facts.offset('hasMac'), 1);
    }
    if (facts.has('packetType')) this.#packetType(emission, buffer);
    if (facts.has('ctState')) {
      asm.note('connection');
      emitConnectionLookup(emission, 'bpf_xdp_ct_lookup');
    }
  }

  /** As eth_type_trans: broadcast 1 is all ones, multicast 2 any other group address, else 0. */
  #packetType(emission: Emission, buffer: number): void {
    const { asm, facts } = emission;
    const at = facts.offset('packetType');
    const done = asm.label('packet_type');
    const group = asm.label('group');
    this.#loadFrame(asm, buffer, 0, 6, emission.labels.malformed);
    asm.store('u32', R10, at, 0);
    asm.load('u32', R1, R10, buffer).mov(R2, R1).and(R2, ETH_GROUP).jump('==', R2, 0, done);
    asm.store('u32', R10, at, 2).jump32('!=', R1, 0xffffffff, group);
    asm
      .load('u16', R1, R10, buffer + 4)
      .jump('!=', R1, 0xffff, group)
      .store('u32', R10, at, 1);
    asm.place(group).place(done);
  }
}
