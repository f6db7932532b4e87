import type { Family } from '../../net/index.ts';
import { IpProtocol, read16 } from '../../wire/index.ts';
import type { Clock } from '../clock.ts';
import { checksumIsRight } from './checksum.ts';
import { type Direction, type Entry, IPS } from './entry.ts';
import { classifyIcmp } from './icmp-error.ts';
import type { TableAccess, TrackOutcome } from './outcome.ts';
import { type Located, locate, type TrackedPacket } from './packet.ts';
import {
  trackGeneric,
  trackGre,
  trackIcmp,
  trackUdp,
  trackUdplite,
  udpIsSound,
  udpliteIsSound,
} from './protocols.ts';
import { sctpIsSound, trackSctp } from './sctp.ts';
import { type ConntrackSettings, DEFAULT_SETTINGS } from './settings.ts';
import { segmentAt } from './tcp/segment.ts';
import { TcpState } from './tcp/state.ts';
import { trackTcp } from './tcp/tracker.ts';
import { Tracking } from './tracking.ts';
import { invert, type Tuple, tupleKey, tupleOf } from './tuple.ts';

/** A jiffy at HZ=250: the kernel's timers know nothing finer. */
const JIFFY_MS = 4;

/** What stands in the table under a tuple: the connection and which of its directions the tuple is. */
interface Slot {
  readonly entry: Entry;
  readonly direction: Direction;
}

export interface ConntrackOptions {
  readonly clock: Clock;
  readonly settings?: Partial<ConntrackSettings>;
}

/** What {@link Conntrack.find} tells of a connection. */
export interface FoundConnection {
  /** TCP has closed it. */
  readonly closed: boolean;
  readonly assured: boolean;
}

/** Told when connections enter the table, and when they leave it. */
export interface ConntrackObserver {
  confirmed(entry: Entry): void;
  removed(entry: Entry): void;
}

/**
 * Connection tracking of one network namespace (net/netfilter/nf_conntrack_core.c): TCP with window tracking, UDP,
 * UDP-Lite, SCTP, ICMP and ICMPv6 with their errors, GRE, and everything else by addresses.
 *
 * Not here: expectations and helpers (so RELATED means ICMP errors only). Address translation is `Nat`'s.
 *
 * A packet goes through {@link track} at PRE_ROUTING or LOCAL_OUT and through {@link confirm} when all hooks of
 * LOCAL_IN or POST_ROUTING have let it pass. A first packet that is dropped in between leaves no trace.
 */
export class Conntrack {
  readonly settings: ConntrackSettings;
  readonly #clock: Clock;
  #observer: ConntrackObserver | undefined;
  readonly #slots = new Map<string, Slot>();
  #entries = 0;
  #sweepAbove = 1024;
  /** Before this nothing that the last sweep has seen ends, unless its own packets end it. */
  #nextEndMs = 0;
  /** Those that early_drop may take, the oldest first; some may have become assured since. */
  readonly #droppable = new Set<Entry>();

  constructor(options: ConntrackOptions) {
    this.#clock = options.clock;
    this.settings = { ...DEFAULT_SETTINGS, ...options.settings };
  }

  /** One observer: address translation, which has an index of its own. */
  observe(observer: ConntrackObserver): void {
    this.#observer = observer;
  }

  /** Connections in the table, those past their time included until someone meets them. */
  get size(): number {
    return this.#entries;
  }

  /** nf_conntrack_in(): finds or opens the connection; `drop` only when the table is full. */
  track(packet: TrackedPacket): Tracking | 'drop' {
    const located = locate(packet.family, packet.bytes);
    if (located === undefined) return this.#tracking('INVALID');
    const zone = packet.zone ?? 0;
    const verify = this.settings.checksum && packet.hook === 'pre-routing';
    if (located.protocol === IpProtocol.ICMP || located.protocol === IpProtocol.ICMPV6) {
      const special = this.#icmp(located, zone, verify);
      if (special !== undefined) return special;
    }
    // A TCP connection may be found stale and removed; the second look then opens a new one.
    for (;;) {
      const found = this.#resolve(located, zone);
      if (found === 'drop') return 'drop';
      if (found === undefined) return this.#tracking('INVALID');
      const outcome = this.#protocol(located, found, verify);
      if (outcome === 'repeat') continue;
      if (outcome === 'drop') return 'drop';
      if (outcome === 'invalid') return this.#tracking('INVALID');
      const { entry, direction } = found;
      const state = stateOf(entry, direction);
      if (direction === 'reply') entry.status |= IPS.SEEN_REPLY;
      return this.#tracking(state, direction, entry);
    }
  }

  /**
   * nf_confirm(): the packet has passed all hooks, so its connection, when new, enters the table. `false`: another
   * packet was faster and opened it with the same tuple; drop this one.
   */
  confirm(tracking: Tracking): boolean {
    const entry = tracking.connection;
    if (entry === undefined || (entry.status & IPS.CONFIRMED) !== 0) return true;
    if ((entry.status & IPS.DYING) !== 0 || tracking.direction === 'reply') return true;
    const keys = keysOf(entry);
    if (keys.some((key) => this.#live(key) !== undefined)) return false;
    entry.status |= IPS.CONFIRMED;
    entry.timeoutMs += this.#nowMs();
    this.#slots.set(keys[0], { entry, direction: 'original' });
    this.#slots.set(keys[1], { entry, direction: 'reply' });
    this.#entries++;
    this.#droppable.add(entry);
    this.#observer?.confirmed(entry);
    if (this.#entries > this.#sweepAbove) this.#sweep();
    return true;
  }

  /** nf_conntrack_tuple_taken(): whether a connection other than `ignored`, and unlike it, has this tuple. */
  isTaken(tuple: Tuple, ignored: Entry): boolean {
    const slot = this.#live(tupleKey(tuple, ignored.zone));
    if (slot === undefined || slot.entry === ignored) return false;
    return tupleKey(slot.entry.original, 0) !== tupleKey(ignored.original, 0);
  }

  /**
   * Puts a connection that was open before into the table, as ctnetlink does; `timeoutMs` is how long it still has. Of TCP
   * sides that are unknown the next segment tells. @returns false when one of its tuples is there already
   */
  restore(entry: Entry): boolean {
    if ((entry.status & IPS.CONFIRMED) !== 0) entry.status &= ~IPS.CONFIRMED;
    return this.confirm(this.#tracking('ESTABLISHED', 'original', entry));
  }

  /** nf_ct_get_tuplepr(): what a packet would be tracked by; `undefined` when it cannot be. */
  tupleOf(family: Family, bytes: Uint8Array): Tuple | undefined {
    const located = locate(family, bytes);
    return located === undefined ? undefined : tupleOf(located);
  }

  /** nf_conntrack_find_get(): the live connection with this tuple. */
  find(tuple: Omit<Tuple, 'family'>, zone: number): FoundConnection | undefined {
    const entry = this.#live(tupleKey(tuple, zone))?.entry;
    if (entry === undefined) return undefined;
    const state = entry.tcp?.state;
    const closed = state === TcpState.TIME_WAIT || state === TcpState.CLOSE;
    return { closed, assured: (entry.status & IPS.ASSURED) !== 0 };
  }

  /** nf_ct_kill(): the connection ends here. */
  kill(entry: Entry): void {
    this.#remove(entry);
  }

  /** nf_ct_attach(): what an answer of this host to a packet of a connection is to that connection. */
  related({ connection, direction }: Tracking): Tracking | undefined {
    if (connection === undefined) return undefined;
    return this.#tracking('RELATED', direction === 'original' ? 'reply' : 'original', connection);
  }

  /** A packet that rules exempted before conntrack saw it (`-j CT --notrack`). */
  untracked(): Tracking {
    return this.#tracking('UNTRACKED');
  }

  /** All connections that have not ended, in the order they were confirmed. */
  *entries(): IterableIterator<Entry> {
    const nowMs = this.#nowMs();
    for (const { entry, direction } of this.#slots.values()) {
      if (direction === 'original' && entry.timeoutMs > nowMs) yield entry;
    }
  }

  /** Forgets everything (`conntrack -F`). */
  flush(): void {
    for (const { entry, direction } of [...this.#slots.values()])
      if (direction === 'original') this.#remove(entry);
  }

  #nowMs(): number {
    return Math.floor(this.#clock.nowMs() / JIFFY_MS) * JIFFY_MS;
  }

  #tracking(state: Tracking['state'], direction: Direction = 'original', entry?: Entry): Tracking {
    return new Tracking(state, direction, entry, () => this.#nowMs());
  }

  /** Errors, discovery and broken messages; `undefined` for those that are tracked as exchanges. */
  #icmp(located: Located, zone: number, verify: boolean): Tracking | undefined {
    const { family, bytes, protocol, offset } = located;
    if (protocol !== (family === 'ipv4' ? IpProtocol.ICMP : IpProtocol.ICMPV6)) return undefined;
    if (bytes.length - offset < 8) return this.#tracking('INVALID');
    if (verify && !checksumIsRight(located)) return this.#tracking('INVALID');
    const icmp = classifyIcmp(located);
    if (icmp.kind === 'message') return undefined;
    if (icmp.kind === 'invalid') return this.#tracking('INVALID');
    if (icmp.kind === 'untracked') return this.#tracking('UNTRACKED');
    const slot = this.#live(tupleKey(icmp.tuple, zone));
    if (slot === undefined) return this.#tracking('INVALID');
    // The error must be addressed to the host that sent the packet it speaks of.
    const { entry, direction } = slot;
    const expected = (direction === 'original' ? entry.original : entry.reply).destination;
    const [from, to] = family === 'ipv4' ? [16, 20] : [24, 40];
    const sameHost = bytes.subarray(from, to).every((byte, index) => byte === expected[index]);
    return sameHost ? this.#tracking('RELATED', direction, entry) : this.#tracking('INVALID');
  }

  /** resolve_normal_ct(): the connection of the packet, or a new unconfirmed one; `undefined`: not trackable. */
  #resolve(located: Located, zone: number): Slot | 'drop' | undefined {
    const tuple = tupleOf(located);
    if (tuple === undefined) return undefined;
    const slot = this.#live(tupleKey(tuple, zone));
    if (slot !== undefined) return slot;
    const reply = invert(tuple);
    if (reply === undefined) return undefined;
    if (this.#entries >= this.settings.maximumEntries && !this.#makeRoom()) return 'drop';
    return { entry: open(tuple, reply, zone), direction: 'original' };
  }

  #protocol(located: Located, slot: Slot, verify: boolean): TrackOutcome {
    const { bytes, protocol, offset } = located;
    const { entry, direction } = slot;
    const table = this.#access(slot, bytes.length);
    switch (protocol) {
      case IpProtocol.TCP: {
        const segment = segmentAt(bytes, offset);
        if (segment === undefined || (verify && !checksumIsRight(located))) return 'invalid';
        return trackTcp(entry, direction, segment, this.settings, table);
      }
      case IpProtocol.UDP: {
        if (!udpIsSound(located)) return 'invalid';
        const unverified = read16(bytes, offset + 6) === 0;
        if (verify && !unverified && !checksumIsRight(located)) return 'invalid';
        return trackUdp(entry, this.settings, table);
      }
      case IpProtocol.UDPLITE: {
        if (!udpliteIsSound(located)) return 'invalid';
        const coverage = read16(bytes, offset + 4);
        if (verify && !checksumIsRight(located, coverage === 0 ? undefined : coverage)) return 'invalid';
        return trackUdplite(entry, this.settings, table);
      }
      case IpProtocol.ICMP:
      case IpProtocol.ICMPV6:
        // ICMP inside IPv6 and ICMPv6 inside IPv4 are nobody's.
        if ((protocol === IpProtocol.ICMP) !== (located.family === 'ipv4')) return 'invalid';
        return trackIcmp(entry, this.settings, table);
      case IpProtocol.SCTP:
        if (!sctpIsSound(located) || (verify && !checksumIsRight(located))) return 'invalid';
        return trackSctp(entry, direction, located, this.settings, table);
      case IpProtocol.GRE:
        return trackGre(entry, this.settings, table);
      default:
        return trackGeneric(this.settings, table);
    }
  }

  #access({ entry, direction }: Slot, bytes: number): TableAccess {
    const nowMs = this.#nowMs();
    const counted = entry.accounting[direction];
    const count = (): void => {
      counted.packets++;
      counted.bytes += bytes;
    };
    const shorten = (timeoutMs: number): void => {
      entry.timeoutMs = (entry.status & IPS.CONFIRMED) === 0 ? timeoutMs : nowMs + timeoutMs;
    };
    return {
      nowMs,
      remove: () => this.#remove(entry),
      count,
      shorten,
      refresh: (timeoutMs) => {
        count();
        shorten(timeoutMs);
      },
    };
  }

  #live(key: string): Slot | undefined {
    const slot = this.#slots.get(key);
    if (slot === undefined) return undefined;
    if (slot.entry.timeoutMs > this.#nowMs()) return slot;
    this.#remove(slot.entry);
    return undefined;
  }

  #remove(entry: Entry): void {
    entry.status |= IPS.DYING;
    if ((entry.status & IPS.CONFIRMED) === 0) return;
    for (const key of keysOf(entry)) this.#slots.delete(key);
    this.#entries--;
    this.#droppable.delete(entry);
    this.#observer?.removed(entry);
  }

  /** Removes what has ended; the next sweep comes when the table has doubled. */
  #sweep(): void {
    const nowMs = this.#nowMs();
    this.#nextEndMs = Number.POSITIVE_INFINITY;
    for (const { entry, direction } of [...this.#slots.values()]) {
      if (direction !== 'original') continue;
      if (entry.timeoutMs <= nowMs) this.#remove(entry);
      else this.#nextEndMs = Math.min(this.#nextEndMs, entry.timeoutMs);
    }
    this.#sweepAbove = Math.max(1024, this.#entries * 2);
  }

  /** A full table: first what has ended goes, then the oldest connection that never became assured (early_drop). */
  #makeRoom(): boolean {
    if (this.#nowMs() >= this.#nextEndMs) this.#sweep();
    if (this.#entries < this.settings.maximumEntries) return true;
    for (const entry of this.#droppable) {
      this.#droppable.delete(entry);
      if ((entry.status & IPS.ASSURED) !== 0) continue;
      this.#remove(entry);
      return true;
    }
    return false;
  }
}

function open(original: Tuple, reply: Tuple, zone: number): Entry {
  const accounting = { original: { packets: 0, bytes: 0 }, reply: { packets: 0, bytes: 0 } };
  return { zone, original, reply, status: 0, mark: 0, accounting, timeoutMs: 0 };
}

function keysOf(entry: Entry): readonly [string, string] {
  return [tupleKey(entry.original, entry.zone), tupleKey(entry.reply, entry.zone)];
}

function stateOf(entry: Entry, direction: Direction): 'NEW' | 'ESTABLISHED' | 'RELATED' {
  if (direction === 'reply' || (entry.status & IPS.SEEN_REPLY) !== 0) return 'ESTABLISHED';
  return (entry.status & IPS.EXPECTED) !== 0 ? 'RELATED' : 'NEW';
}
