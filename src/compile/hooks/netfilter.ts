/**
 * BPF_PROG_TYPE_NETFILTER (net/netfilter/nf_bpf_link.c): context struct bpf_nf_ctx { state; skb }, both kernel pointers.
 *
 * r9 is the sk_buff. The packet is read through a dynptr, which starts at the network header at all five hooks and is
 * read-only; devices, mark and conntrack state are read from the kernel's structures.
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
  R5,
  R6,
  R9,
  R10,
  type Register,
} from '../../isa/index.ts';
import { type AttachPoint, entryIndex, needsAtomicCounters } from '../attach.ts';
import type { Emission } from '../emit/emission.ts';
import { type Fact, HOOK_FACTS } from '../emit/fact.ts';
import type { Frame } from '../emit/frame.ts';
import type { RuleTag } from '../program.ts';
import { emitConnection, emitConntrackFacts } from './conntrack.ts';
import { emitDeviceName } from './device.ts';
import type { FamilyLabels, HookEmitter, PacketOffset } from './hook.ts';
import { ARPHRD_ETHER, emitSkbLink, emitSkbOwner, NO_MAC_HEADER } from './linkheader.ts';

export const CONTEXT_STATE = 0;
const CONTEXT_SKB = 8;
const NF_DROP = 0;
const NF_ACCEPT = 1;
const ETH_HLEN = 14;
const ETH_SOURCE = 6;
/** struct bpf_dynptr */
const DYNPTR_BYTES = 16;

/** A structure of nothing but u64, and more of them than any header is long: what a pointer to bytes is cast to. */
const MEMORY = 'rtnl_link_stats64';

export class NetfilterHook implements HookEmitter {
  readonly point: AttachPoint & { flavour: 'netfilter' };
  readonly type = 'BPF_PROG_TYPE_NETFILTER';
  readonly attachType = 'BPF_NETFILTER';
  readonly accept: number = NF_ACCEPT;
  readonly drop: number = NF_DROP;
  readonly keeps: number = DYNPTR_BYTES;
  readonly provides: ReadonlySet<Fact> = HOOK_FACTS;
  readonly preemptible: boolean;

  constructor(point: AttachPoint & { flavour: 'netfilter' }) {
    this.point = point;
    this.preemptible = needsAtomicCounters(point);
  }

  place(asm: Assembler<RuleTag>, to: Register): void {
    asm.mov(to, entryIndex(this.point));
  }

  begin(asm: Assembler<RuleTag>): void {
    asm.mov(R6, R1).load('u64', R9, R6, CONTEXT_SKB);
  }

  identity(asm: Assembler<RuleTag>, to: Register): void {
    asm.mov(to, R9).loadMap(R2, 'arena').sub(to, R2);
  }

  cookie(asm: Assembler<RuleTag>, to: Register): void {
    const known = asm.label('netns');
    asm.load('u64', R1, R6, CONTEXT_STATE).loadField('u64', R1, R1, 'nf_hook_state', 'net');
    asm.loadField('u64', to, R1, 'net', 'net_cookie').jump('!=', to, 0, known);
    // A test run (net/bpf/test_run.c) names no namespace; its devices are the loopback device of the caller's.
    const device = asm.label('device');
    for (const side of ['out', 'in'] as const) {
      asm.load('u64', R1, R6, CONTEXT_STATE).loadField('u64', R1, R1, 'nf_hook_state', side);
      if (side === 'out') asm.jump('!=', R1, 0, device);
    }
    asm.place(device);
    asm.loadField('u64', R1, R1, 'net_device', 'nd_net.net');
    asm.loadField('u64', to, R1, 'net', 'net_cookie').place(known);
  }

  sort(asm: Assembler<RuleTag>, _frame: Frame, labels: FamilyLabels): void {
    asm.goto(this.point.family === 'ipv4' ? labels.ipv4 : labels.ipv6);
  }

  open(emission: Emission): void {
    const { asm, frame } = emission;
    asm
      .note('the packet and its length')
      .mov(R1, R9)
      .mov(R2, 0)
      .mov(R3, R10)
      .add(R3, frame.block('dynptr', DYNPTR_BYTES));
    asm.callKfunc('bpf_dynptr_from_skb');
    asm.loadField('u32', R1, R9, 'sk_buff', 'len').store('u32', R10, emission.facts.offset('length'), R1);
  }

  read(
    emission: Emission,
    bytes: Operand,
    place: (register: Register) => void,
    from: PacketOffset,
    short: Label,
  ): void {
    const { asm, frame } = emission;
    asm.mov(R2, bytes);
    if (from.word === undefined) asm.mov(R4, from.constant);
    else asm.load('u32', R4, R10, from.word);
    if (from.word !== undefined && from.constant !== 0) asm.add(R4, from.constant);
    place(R1);
    asm.mov(R3, R10).add(R3, frame.block('dynptr', DYNPTR_BYTES));
    asm.mov(R5, 0).call('bpf_dynptr_read').jump('!=', R0, 0, short);
  }

  /**
   * Most headers lie in the sk_buff's own memory and are read there. bpf_dynptr_slice gives a pointer into the packet, too,
   * or to the buffer where the bytes do not lie together, but is a call, and costs three times as much.
   */
  copy(emission: Emission, to: number, from: PacketOffset, bytes: number, short: Label): void {
    const { asm } = emission;
    const apart = asm.label('not_linear');
    const copied = asm.label('copied');
    if (from.word === undefined) asm.mov(R2, from.constant);
    else asm.load('u32', R2, R10, from.word);
    if (from.word !== undefined && from.constant !== 0) asm.add(R2, from.constant);
    asm.loadField('u32', R1, R9, 'sk_buff', 'len').loadField('u32', R3, R9, 'sk_buff', 'data_len');
    asm.sub(R1, R3).mov(R3, R2).add(R3, bytes).jump('>', R3, R1, apart);
    asm.loadField('u64', R1, R9, 'sk_buff', 'data').add(R1, R2);
    asm.movTypeId(R2, MEMORY).callKfunc('bpf_rdonly_cast');
    emitWords(asm, to, bytes);
    asm.goto(copied).place(apart);
    this.#slice(emission, to, bytes, short);
    asm.place(copied);
  }

  /** r2 = where the bytes begin. Uses r0..r5. */
  #slice({ asm, frame }: Emission, to: number, bytes: number, short: Label): void {
    asm.mov(R1, R10).add(R1, frame.block('dynptr', DYNPTR_BYTES));
    asm.mov(R3, R10).add(R3, to).mov(R4, bytes);
    asm.callKfunc('bpf_dynptr_slice').jump('==', R0, 0, short);
    emitWords(asm, to, bytes);
  }

  connection({ asm }: Emission, none: Label): void {
    emitConnection(asm, R9, none);
  }

  logLink(emission: Emission, record: number): void {
    emitSkbLink(emission, R9, record);
  }

  logOwner(emission: Emission, record: number): void {
    emitSkbOwner(emission, record, () => R9);
  }

  facts(emission: Emission): void {
    const { asm, facts } = emission;
    for (const side of ['in', 'out'] as const) {
      const name = side === 'in' ? 'inDevice' : 'outDevice';
      const index = side === 'in' ? 'inIfindex' : 'outIfindex';
      if (!facts.has(name) && !facts.has(index)) continue;
      asm.note(side === 'in' ? 'input device' : 'output device');
      // A missing device is a null pointer; reading through it gives zeros, the empty name.
      asm.load('u64', R1, R6, CONTEXT_STATE).loadField('u64', R1, R1, 'nf_hook_state', side);
      if (facts.has(index)) {
        asm.loadField('u32', R2, R1, 'net_device', 'ifindex').store('u32', R10, facts.offset(index), R2);
      }
      if (facts.has(name)) emitDeviceName(emission, name, R1);
    }
    if (facts.has('mark')) {
      asm.loadField('u32', R1, R9, 'sk_buff', 'mark').store('u32', R10, facts.offset('mark'), R1);
    }
    if (facts.has('packetType')) {
      // A bit field of three bits, the lowest of its byte, which has a name of its own for that purpose.
      asm.loadField('u8', R1, R9, 'sk_buff', '__pkt_type_offset').and(R1, 7);
      asm.store('u32', R10, facts.offset('packetType'), R1);
    }
    if (facts.has('ctState')) {
      asm.note('connection');
      emitConntrackFacts(emission, R9);
    }
    if (facts.has('hasMac')) this.#macSource(emission);
  }

  /** xt_mac.c mac_mt: an Ethernet device, and a link-layer header that lies before the data. */
  #macSource(emission: Emission): void {
    const { asm, facts, frame } = emission;
    const done = asm.label('no_mac');
    for (const word of [0, 1]) asm.store('u32', R10, facts.offset('macSource', word), 0);
    asm.store('u32', R10, facts.offset('hasMac'), 0);
    asm.loadField('u64', R1, R9, 'sk_buff', 'dev').loadField('u16', R1, R1, 'net_device', 'type');
    asm.jump('!=', R1, ARPHRD_ETHER, done);
    asm.loadField('u16', R1, R9, 'sk_buff', 'mac_header').jump('==', R1, NO_MAC_HEADER, done);
    asm.loadField('u64', R3, R9, 'sk_buff', 'head').add(R3, R1);
    asm.loadField('u64', R2, R9, 'sk_buff', 'data').sub(R2, R3).jump('s<', R2, ETH_HLEN, done);
    const buffer = frame.block('scratch', 8);
    asm.add(R3, ETH_SOURCE).mov(R1, R10).add(R1, buffer).mov(R2, 6).call('bpf_probe_read_kernel');
    asm.jump('!=', R0, 0, done);
    asm.load('u32', R1, R10, buffer).store('u32', R10, facts.offset('macSource', 0), R1);
    asm.load('u16', R1, R10, buffer + 4).store('u32', R10, facts.offset('macSource', 1), R1);
    asm.store('u32', R10, facts.offset('hasMac'), 1);
    asm.place(done);
  }
}

/** Copies `bytes` bytes from r0 on to the frame. Uses r1. */
function emitWords(asm: Assembler<RuleTag>, to: number, bytes: number): void {
  let at = 0;
  for (const [size, width] of [
    ['u64', 8],
    ['u32', 4],
    ['u16', 2],
    ['u8', 1],
  ] as const) {
    for (; bytes - at >= width; at += width) asm.load(size, R1, R0, at).store(size, R10, to + at, R1);
  }
}
