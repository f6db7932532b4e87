/** {@link evaluatePacket}: one packet, from the device or from a local process, to its fate. */
import { Hook } from '../../ir/index.ts';
import { ipv4OptionsAreAccepted } from '../../wire/index.ts';
import type { TableName } from '../model.ts';
import { destinationOf, sourceOf } from './base.ts';
import { transportPosition } from './header.ts';
import type { EvaluationHost, TrackedView } from './host.ts';
import type { EvaluationPacket, LogEntry, SendingSocket, World } from './packet.ts';
import type { EvaluatedChain, EvaluatedRule, EvaluatedTable } from './prepared.ts';
import { type ReceiveFault, receive } from './receive.ts';
import type { RouteFault } from './routing.ts';
import type { RuleFailure } from './walk.ts';

/** A packet as it came in, or as a local process sent it. */
export interface PacketInput {
  /** IP packet; what follows its IP length is ignored. */
  readonly bytes: Uint8Array;
  /** Device it came in by; empty for packets of this host. */
  readonly inDevice: string;
  /** 14 bytes of Ethernet header, when there was one. */
  readonly ethernet?: Uint8Array;
  /** PACKET_HOST 0 unless told. */
  readonly packetType?: number;
  readonly mark?: number;
  /** The socket it comes from, when a process of this host sent it. */
  readonly sender?: SendingSocket | undefined;
}

/** Why the stack itself dropped a packet, without a rule. */
export type StackFault =
  | ReceiveFault
  | RouteFault
  | 'ttl-exceeded'
  | 'conntrack-full'
  | 'conntrack-clash'
  /** Waits in reassembly; its datagram is decided when the last fragment comes. */
  | 'fragment-held'
  | 'no-reassembly';

export type PacketDecision =
  | { readonly kind: 'rule'; readonly table: TableName; readonly chain: string; readonly rule: number }
  | { readonly kind: 'hotdrop'; readonly table: TableName; readonly chain: string; readonly rule: number }
  | { readonly kind: 'policy'; readonly table: TableName; readonly chain: string }
  | { readonly kind: 'stack'; readonly fault: StackFault }
  /** Accepted and no table had a chain on its way. */
  | { readonly kind: 'none' };

export interface MatchedRule {
  readonly table: TableName;
  readonly chain: string;
  /** From 1. */
  readonly rule: number;
}

export interface ReachedPolicy {
  readonly table: TableName;
  readonly chain: string;
  readonly verdict: 'ACCEPT' | 'DROP';
}

export interface PacketOutcome {
  readonly verdict: 'ACCEPT' | 'DROP';
  /** What decided: where it was dropped; else the filter table's decision, or the last table's where filter had none. */
  readonly decision: PacketDecision;
  /** Rules hit, in order, those without a target among them. */
  readonly matched: readonly MatchedRule[];
  readonly policies: readonly ReachedPolicy[];
  /** Where the packet went: to a process here, or out by a device. Absent when it was dropped. */
  readonly delivered?: { readonly to: 'local' } | { readonly to: 'device'; readonly device: string };
  readonly mark: number;
  readonly logs: readonly LogEntry[];
}

/** A station of the way, for {@link PathObserver}. */
export type Station =
  | { readonly kind: 'table'; readonly hook: Hook; readonly table: TableName }
  | { readonly kind: 'conntrack'; readonly view: TrackedView }
  | { readonly kind: 'reassembled'; readonly length: number }
  | { readonly kind: 'routed'; readonly to: 'local' | 'forward'; readonly outDevice: string };

/** Told of every station and every rule looked at, in order. */
export interface PathObserver {
  station?(station: Station): void;
  matched?(table: EvaluatedTable, chain: EvaluatedChain, rule: EvaluatedRule, packet: EvaluationPacket): void;
  missed?(
    table: EvaluatedTable,
    chain: EvaluatedChain,
    rule: EvaluatedRule,
    failure: RuleFailure,
    packet: EvaluationPacket,
  ): void;
}

/** Takes the packet through every hook it meets; counters and memories of the host move. */
export function evaluatePacket(
  host: EvaluationHost,
  input: PacketInput,
  observer: PathObserver = {},
): PacketOutcome {
  const way = new Way(host, input, observer);
  const fault = input.inDevice === '' ? way.send() : way.receive();
  return way.outcome(fault);
}

/** One hook of a packet's way, where the rest of it is not known or not asked about. */
export interface HookInput extends PacketInput {
  readonly hook: Hook;
  readonly outDevice: string;
}

/**
 * Takes the packet through the tables of one hook alone. Conntrack, where there is one, sees it first, as if it had
 * come through the hooks before; what passes has left its trace there.
 */
export function evaluateHook(
  host: EvaluationHost,
  input: HookInput,
  observer: PathObserver = {},
): PacketOutcome {
  const way = new Way(host, input, observer);
  return way.outcome(way.only(input.hook, input.inDevice, input.outDevice));
}

/** A stack fault, or `dropped` when a rule or policy decided so; `undefined` while the packet lives. */
type Ending = StackFault | 'dropped' | undefined;

const IPV6 = 'ipv6';
/** Tables of LOCAL_IN, FORWARD and POST_ROUTING in the order of their priorities; each has chains at some of them. */
const LATER_TABLES: readonly TableName[] = ['mangle', 'filter', 'security', 'nat'];
const PACKET_HOST = 0;

class Way {
  readonly #host: EvaluationHost;
  readonly #observer: PathObserver;
  readonly #input: PacketInput;
  readonly #matched: MatchedRule[] = [];
  readonly #policies: ReachedPolicy[] = [];
  readonly #logs: LogEntry[] = [];
  readonly #world: World;
  #bytes: Uint8Array;
  #ethernet: Uint8Array | undefined;
  #packetType: number;
  #mark: number;
  #view: TrackedView | undefined;
  #decision: PacketDecision = { kind: 'none' };
  #filterDecision: PacketDecision | undefined;
  #delivered: PacketOutcome['delivered'];

  constructor(host: EvaluationHost, input: PacketInput, observer: PathObserver) {
    this.#host = host;
    this.#input = input;
    this.#observer = observer;
    this.#bytes = input.bytes;
    this.#ethernet = input.ethernet;
    this.#packetType = input.packetType ?? PACKET_HOST;
    this.#mark = input.mark ?? 0;
    const { routing, conntrack } = host;
    this.#world = {
      nowMs: host.nowMs,
      wallMs: host.wallMs,
      random32: host.random32,
      addressType: (address, device) => routing.addressType(address, device),
      outputDevice: (destination) => routing.output(destination),
      sets: host.sets,
      connections: conntrack,
    };
  }

  outcome(ending: Ending): PacketOutcome {
    const stack = ending !== undefined && ending !== 'dropped';
    const accepted = ending === undefined;
    const decision: PacketDecision = stack
      ? { kind: 'stack', fault: ending }
      : accepted
        ? (this.#filterDecision ?? this.#decision)
        : this.#decision;
    return {
      verdict: accepted ? 'ACCEPT' : 'DROP',
      decision,
      matched: this.#matched,
      policies: this.#policies,
      ...(accepted && this.#delivered !== undefined ? { delivered: this.#delivered } : {}),
      mark: this.#mark,
      logs: this.#logs,
    };
  }

  /** ip_rcv, ip6_rcv. */
  receive(): Ending {
    const { inDevice } = this.#input;
    const received = receive({
      family: this.#host.family,
      bytes: this.#input.bytes,
      inDevice,
      packetType: this.#packetType,
    });
    if (typeof received === 'string') return received;
    this.#bytes = received;
    const ending = this.#firstHook(Hook.PRE_ROUTING, inDevice, '');
    if (ending !== undefined) return ending;

    const packet = this.#packet(Hook.PRE_ROUTING, inDevice, '');
    const route = this.#host.routing.input(sourceOf(packet), destinationOf(packet), inDevice);
    if (route.kind === 'drop') return route.fault;
    if (this.#host.family === 'ipv4' && !ipv4OptionsAreAccepted(this.#bytes)) return 'bad-options';
    if (route.kind === 'local') return this.#deliver(inDevice);
    return this.#forward(inDevice, route.outDevice);
  }

  /** A packet of this host: LOCAL_OUT, POST_ROUTING. */
  send(): Ending {
    const packet = this.#packet(Hook.LOCAL_OUT, '', '');
    const outDevice = this.#host.routing.output(destinationOf(packet));
    if (outDevice === undefined) return 'no-route';
    return this.#firstHook(Hook.LOCAL_OUT, '', outDevice) ?? this.#leave('', outDevice);
  }

  /** {@link evaluateHook}. */
  only(hook: Hook, inDevice: string, outDevice: string): Ending {
    const received = receive({
      family: this.#host.family,
      bytes: this.#input.bytes,
      inDevice,
      packetType: this.#packetType,
    });
    if (typeof received === 'string') return received;
    this.#bytes = received;
    if (hook === Hook.PRE_ROUTING || hook === Hook.LOCAL_OUT) {
      return this.#firstHook(hook, inDevice, outDevice) ?? this.#confirm();
    }
    return (
      this.#defragment(inDevice) ??
      this.#lookUp('pre-routing') ??
      (hook === Hook.LOCAL_IN ? this.#gather(inDevice) : undefined) ??
      this.#tables(LATER_TABLES, hook, inDevice, outDevice) ??
      this.#confirm()
    );
  }

  /** nf_defrag at -400, which conntrack and some rules switch on. */
  #defragment(inDevice: string): Ending {
    if (!this.#host.defragments || !this.#isFragment()) return undefined;
    return this.#reassemble('before-conntrack', inDevice);
  }

  /** ip_local_deliver: IPv4 alone puts fragments together before LOCAL_IN. */
  #gather(inDevice: string): Ending {
    if (this.#host.family !== 'ipv4' || !this.#isFragment()) return undefined;
    return this.#reassemble('delivery', inDevice);
  }

  #lookUp(hook: 'pre-routing' | 'local-out'): Ending {
    const view = this.#host.conntrack?.track({ family: this.#host.family, bytes: this.#bytes, hook });
    if (view === 'drop') return 'conntrack-full';
    if (view === undefined) return undefined;
    this.#view = view;
    this.#observer.station?.({ kind: 'conntrack', view });
    return undefined;
  }

  /** PRE_ROUTING or LOCAL_OUT: defragmentation and conntrack among the tables. */
  #firstHook(hook: Hook, inDevice: string, outDevice: string): Ending {
    return (
      this.#defragment(inDevice) ??
      this.#tables(['raw'], hook, inDevice, outDevice) ??
      this.#lookUp(hook === Hook.PRE_ROUTING ? 'pre-routing' : 'local-out') ??
      this.#tables(['mangle', 'nat', 'filter', 'security'], hook, inDevice, outDevice)
    );
  }

  /** ip_local_deliver, ip6_input. */
  #deliver(inDevice: string): Ending {
    this.#observer.station?.({ kind: 'routed', to: 'local', outDevice: '' });
    const ending = this.#gather(inDevice) ?? this.#tables(LATER_TABLES, Hook.LOCAL_IN, inDevice, '');
    if (ending !== undefined) return ending;
    this.#delivered = { to: 'local' };
    return this.#confirm();
  }

  /** ip_forward, ip6_forward: the hop count is checked and lowered before the hook. */
  #forward(inDevice: string, outDevice: string): Ending {
    // A frame that was sent to many is not handed on.
    if (this.#packetType !== PACKET_HOST) return 'not-for-us';
    const at = this.#host.family === 'ipv4' ? 8 : 7;
    if (this.#bytes[at]! <= 1) return 'ttl-exceeded';
    if (this.#host.family === IPV6 && !forwardableSource(this.#bytes, inDevice === outDevice)) {
      return 'martian-source';
    }
    this.#observer.station?.({ kind: 'routed', to: 'forward', outDevice });
    this.#bytes = this.#bytes.slice();
    this.#bytes[at]!--;
    if (this.#host.family === 'ipv4') raiseHeaderChecksum(this.#bytes);
    const tables: readonly TableName[] = ['mangle', 'filter', 'security'];
    return this.#tables(tables, Hook.FORWARD, inDevice, outDevice) ?? this.#leave(inDevice, outDevice);
  }

  #leave(inDevice: string, outDevice: string): Ending {
    const ending = this.#tables(['mangle', 'nat'], Hook.POST_ROUTING, inDevice, outDevice);
    if (ending !== undefined) return ending;
    this.#delivered = { to: 'device', device: outDevice };
    return this.#confirm();
  }

  #confirm(): Ending {
    const { conntrack } = this.#host;
    if (conntrack === undefined || this.#view === undefined) return undefined;
    return conntrack.confirm(this.#view) ? undefined : 'conntrack-clash';
  }

  #reassemble(where: 'before-conntrack' | 'delivery', inDevice: string): Ending {
    const { reassembler, family } = this.#host;
    if (reassembler === undefined) return 'no-reassembly';
    const fragment = {
      bytes: this.#bytes,
      ethernet: this.#ethernet,
      packetType: this.#packetType,
      mark: this.#mark,
    };
    const whole = reassembler.reassemble(fragment, family, where, inDevice);
    if (whole === undefined) return 'fragment-held';
    this.#bytes = whole.bytes;
    this.#ethernet = whole.ethernet;
    this.#packetType = whole.packetType;
    this.#mark = whole.mark;
    this.#observer.station?.({ kind: 'reassembled', length: whole.bytes.length });
    return undefined;
  }

  #isFragment(): boolean {
    const bytes = this.#bytes;
    if (this.#host.family === 'ipv4') return (((bytes[6]! << 8) | bytes[7]!) & 0x3fff) !== 0;
    return hasFragmentHeader(bytes);
  }

  #tables(names: readonly TableName[], hook: Hook, inDevice: string, outDevice: string): Ending {
    for (const name of names) {
      const table = this.#host.tables.get(name);
      if (table === undefined || (name === 'nat' && !this.#natAsks(hook))) continue;
      const packet = this.#packet(hook, inDevice, outDevice);
      const result = this.#host.runTable(table, packet, {
        matched: (chain, rule) => {
          this.#matched.push({ table: name, chain: chain.name, rule: rule.number });
          this.#observer.matched?.(table, chain, rule, packet);
        },
        missed: (chain, rule, failure) => this.#observer.missed?.(table, chain, rule, failure, packet),
        policy: (chain) =>
          this.#policies.push({ table: name, chain: chain.name, verdict: chain.policy ?? 'ACCEPT' }),
      });
      if (result === undefined) continue;
      this.#observer.station?.({ kind: 'table', hook, table: name });
      this.#mark = packet.mark;
      this.#decision = { table: name, ...result.decision };
      if (name === 'filter') this.#filterDecision = this.#decision;
      if (result.verdict !== 'ACCEPT') return 'dropped';
      if (name === 'nat') this.#natAsked(hook);
    }
    return undefined;
  }

  /** nf_nat_inet_fn(): only for a connection's first packet, and once a side. */
  #natAsks(hook: Hook): boolean {
    const connection = this.#view?.connection;
    return this.#view?.state === 'NEW' && connection !== undefined && !this.#natSide(hook).has(connection);
  }

  #natAsked(hook: Hook): void {
    const connection = this.#view?.connection;
    if (connection !== undefined) this.#natSide(hook).add(connection);
  }

  #natSide(hook: Hook): WeakSet<object> {
    const destination = hook === Hook.PRE_ROUTING || hook === Hook.LOCAL_OUT;
    return destination ? this.#host.translated.destination : this.#host.translated.source;
  }

  #packet(hook: Hook, inDevice: string, outDevice: string): EvaluationPacket {
    return {
      family: this.#host.family,
      bytes: this.#bytes,
      length: this.#bytes.length,
      hook,
      inDevice,
      outDevice,
      ...transportPosition(this.#host.family, this.#bytes),
      ethernet: this.#ethernet,
      packetType: this.#packetType,
      mark: this.#mark,
      sender: this.#input.sender,
      conntrack: this.#view,
      world: this.#world,
      log: (entry) => this.#logs.push(entry),
    };
  }
}

/** RFC 1624: the TTL went down by one, so the checksum goes up by 0x0100 (ip_decrease_ttl). */
function raiseHeaderChecksum(bytes: Uint8Array): void {
  const sum = ((bytes[10]! << 8) | bytes[11]!) + 0x0100;
  const folded = sum >= 0xffff ? sum - 0xffff : sum;
  bytes[10] = folded >> 8;
  bytes[11] = folded & 0xff;
}

/** ip6_forward(): addresses that have no business beyond their link. Not asked when it leaves where it came in. */
function forwardableSource(bytes: Uint8Array, sameDevice: boolean): boolean {
  if (sameDevice) return true;
  const source = bytes.subarray(8, 24);
  if (source.every((byte) => byte === 0)) return false;
  return !(source[0] === 0xfe && (source[1]! & 0xc0) === 0x80);
}

/** nf_ct_frag6: a fragment header among the headers that can stand before one. */
function hasFragmentHeader(bytes: Uint8Array): boolean {
  let next = bytes[6]!;
  let offset = 40;
  while (next === 0 || next === 43 || next === 60 || next === 51) {
    if (offset + 2 > bytes.length) return false;
    const length = next === 51 ? (bytes[offset + 1]! + 2) * 4 : (bytes[offset + 1]! + 1) * 8;
    next = bytes[offset]!;
    offset += length;
  }
  return next === 44;
}
