/**
 * Address translation of one namespace: what a connection becomes, and every packet of it.
 * Source: net/netfilter/nf_nat_core.c (nf_nat_setup_info, nf_nat_packet), nf_nat_proto.c (icmp_reply_translation).
 *
 * Not here: helpers, and with them sequence number adjustment; evicting a connection in TIME_WAIT when a source port is
 * wanted and none was free after 120 attempts.
 */
import { addToSum, finishSum, IpProtocol } from '../../wire/index.ts';
import { checksumIsRight } from '../conntrack/checksum.ts';
import type { Conntrack } from '../conntrack/conntrack.ts';
import { type Direction, type Entry, IPS } from '../conntrack/entry.ts';
import { locate } from '../conntrack/packet.ts';
import type { Tracking } from '../conntrack/tracking.ts';
import { invert, type Tuple, tupleKey } from '../conntrack/tuple.ts';
import { NF_INET_LOCAL_IN, NF_INET_POST_ROUTING } from '../hooks/family.ts';
import { NF_ACCEPT, NF_DROP } from '../hooks/verdict.ts';
import { ETH_P_IP, type SkBuff } from '../skb.ts';
import type { Manip, NatRange } from './range.ts';
import { rewritePacket } from './rewrite.ts';
import { uniqueTuple } from './unique.ts';

const NAT_MASK = IPS.SRC_NAT | IPS.DST_NAT;
const NAT_DONE_MASK = IPS.SRC_NAT_DONE | IPS.DST_NAT_DONE;
const ICMP_HEADER_BYTES = 8;
const ICMP_REDIRECT = 5;
const NDISC_REDIRECT = 137;

export interface NatOptions {
  readonly conntrack: Conntrack;
  /** 16 random bits: where the search for a free port begins. */
  readonly random16: () => number;
}

/** Which end a hook changes of a connection's first packet (HOOK2MANIP). */
export function manipOfHook(hook: number): Manip {
  return hook === NF_INET_POST_ROUTING || hook === NF_INET_LOCAL_IN ? 'source' : 'destination';
}

export class Nat {
  readonly conntrack: Conntrack;
  readonly #random16: () => number;
  /** Connections in the table by protocol and original source, the latest first (nf_nat_bysource). */
  readonly #bySource = new Map<string, Entry[]>();

  constructor(options: NatOptions) {
    this.conntrack = options.conntrack;
    this.#random16 = options.random16;
    this.conntrack.observe({
      confirmed: (entry) => this.#remember(entry),
      removed: (entry) => this.#forget(entry),
    });
  }

  /** Whether this end of the connection has been settled, changed or not (nf_nat_initialized). */
  isSettled(entry: Entry, manip: Manip): boolean {
    return (entry.status & doneBit(manip)) !== 0;
  }

  /**
   * Settles one end of a connection that is not confirmed yet: chooses from the range, and changes what the answer looks
   * like (nf_nat_setup_info).
   * @returns NF_ACCEPT; NF_DROP when that end is settled already
   */
  setup(entry: Entry, range: NatRange, manip: Manip): number {
    if ((entry.status & IPS.CONFIRMED) !== 0) return NF_ACCEPT;
    if (this.isSettled(entry, manip)) return NF_DROP;
    const current = invert(entry.reply);
    if (current === undefined) return NF_DROP;
    const context = {
      conntrack: this.conntrack,
      random16: this.#random16,
      bySource: (tuple: Tuple, zone: number) => this.#bySource.get(sourceKey(tuple, zone)) ?? [],
    };
    const chosen = uniqueTuple(context, current, range, entry, manip);
    if (tupleKey(chosen, 0) !== tupleKey(current, 0)) {
      const reply = invert(chosen);
      if (reply === undefined) return NF_DROP;
      entry.reply = reply;
      entry.status |= natBit(manip);
    }
    entry.status |= doneBit(manip);
    return NF_ACCEPT;
  }

  /** Settles an end that no rule wants changed; its port may still have to, where the tuple is taken (nf_nat_alloc_null_binding). */
  setupNull(entry: Entry, manip: Manip): number {
    const address = manip === 'source' ? entry.reply.destination : entry.reply.source;
    return this.setup(entry, { addresses: { min: address, max: address } }, manip);
  }

  /**
   * Gives a packet of a settled connection the address and port of its direction (nf_nat_packet). The bytes of `skb` are
   * replaced, never changed in place.
   */
  translate(skb: SkBuff, entry: Entry, direction: Direction, manip: Manip): number {
    if (!concerns(entry, direction, manip)) return NF_ACCEPT;
    const target = invert(otherTuple(entry, direction));
    if (target === undefined) return NF_DROP;
    skb.data = skb.data.slice();
    return rewritePacket(skb.data, entry.original.family, target, manip) ? NF_ACCEPT : NF_DROP;
  }

  /**
   * Translates an ICMP error and the packet it quotes, which went the other way (nf_nat_icmp_reply_translation).
   * @returns false: drop it
   */
  translateError(skb: SkBuff, { connection, direction }: Tracking, manip: Manip): boolean {
    if (connection === undefined) return false;
    const { family } = connection.original;
    const outer = locate(family, skb.data);
    if (outer === undefined || skb.data.length < outer.offset + ICMP_HEADER_BYTES) return false;
    if (!checksumIsRight(outer)) return false;
    const redirect = family === 'ipv4' ? ICMP_REDIRECT : NDISC_REDIRECT;
    if (skb.data[outer.offset] === redirect) {
      if ((connection.status & NAT_DONE_MASK) !== NAT_DONE_MASK) return false;
      if ((connection.status & NAT_MASK) !== 0) return false;
    }
    if (!concerns(connection, direction, manip)) return true;
    const data = skb.data.slice();
    const tuple = otherTuple(connection, direction);
    const opposite: Manip = manip === 'source' ? 'destination' : 'source';
    if (!rewritePacket(data, family, tuple, opposite, outer.offset + ICMP_HEADER_BYTES)) return false;
    const target = invert(tuple);
    if (target === undefined) return false;
    // The message has no identifier of its own: only addresses change outside.
    if (!rewritePacket(data, family, target, manip)) return false;
    recomputeIcmp(data, outer.offset, family === 'ipv4');
    skb.data = data;
    return true;
  }

  #remember(entry: Entry): void {
    const key = sourceKey(entry.original, entry.zone);
    const known = this.#bySource.get(key);
    if (known === undefined) this.#bySource.set(key, [entry]);
    else known.unshift(entry);
  }

  #forget(entry: Entry): void {
    const key = sourceKey(entry.original, entry.zone);
    const known = this.#bySource.get(key);
    const at = known?.indexOf(entry) ?? -1;
    if (known === undefined || at < 0) return;
    known.splice(at, 1);
    if (known.length === 0) this.#bySource.delete(key);
  }
}

function doneBit(manip: Manip): number {
  return manip === 'source' ? IPS.SRC_NAT_DONE : IPS.DST_NAT_DONE;
}

function natBit(manip: Manip): number {
  return manip === 'source' ? IPS.SRC_NAT : IPS.DST_NAT;
}

/** Answers undo at this end what was done at the other. */
function concerns(entry: Entry, direction: Direction, manip: Manip): boolean {
  const bit = natBit(manip);
  return (entry.status & (direction === 'original' ? bit : bit ^ NAT_MASK)) !== 0;
}

function otherTuple(entry: Entry, direction: Direction): Tuple {
  return direction === 'original' ? entry.reply : entry.original;
}

function sourceKey({ protocol, source, sourcePort }: Tuple, zone: number): string {
  return `${zone} ${protocol} ${source} ${sourcePort}`;
}

/** Quoted bytes changed in several places: the sum over the message is taken anew. */
function recomputeIcmp(data: Uint8Array, offset: number, ipv4: boolean): void {
  data[offset + 2] = 0;
  data[offset + 3] = 0;
  const length = data.length - offset;
  const seed = ipv4 ? 0 : addToSum(length + IpProtocol.ICMPV6, data, 8, 40);
  const sum = finishSum(addToSum(seed, data, offset, data.length));
  data[offset + 2] = sum >> 8;
  data[offset + 3] = sum & 0xff;
}

/** True when a packet is ICMP of its own family: errors among them are translated with what they quote. */
export function isIcmpPacket(skb: SkBuff): boolean {
  const ipv4 = skb.protocol === ETH_P_IP;
  const located = locate(ipv4 ? 'ipv4' : 'ipv6', skb.data);
  return located?.protocol === (ipv4 ? IpProtocol.ICMP : IpProtocol.ICMPV6);
}
