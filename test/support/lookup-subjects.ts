/**
 * The connection look-up of xdp and tcx ingress: TCP and UDP headers at their edges, and connections of every state, whatever
 * packets led there. What is left of a packet is told here by the netstack's table of transitions.
 */
import { StateSet } from '../../src/compile/connectionstate.ts';
import type { AttachPoint } from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { IPS } from '../../src/netstack/conntrack/entry.ts';
import { segmentAt } from '../../src/netstack/conntrack/tcp/segment.ts';
import { SegmentKind, TcpFlag, TcpState, transition } from '../../src/netstack/conntrack/tcp/state.ts';
import type { TupleRequest } from '../../src/vm/index.ts';
import { buildPacket, type Fragment, type Shape, type Transport } from './generate/shape.ts';
import { INTERESTING } from './generate/world.ts';
import { type FoundConnection, LookupMachine } from './lookup-machine.ts';
import { buildLookup } from './lookup-program.ts';
import type { Subject } from './mistakes.ts';

const POINTS: readonly AttachPoint[] = [{ flavour: 'xdp' }, { flavour: 'tcx', direction: 'ingress' }];
const HEADER = { ipv4: 20, ipv6: 40 } as const;
const FRAGMENT_HEADER = 8;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const TCP = 6;
const UDP = 17;
const PORTS = [0x1234, 0x5678] as const;

/** A packet, and what is left of it. */
interface Asked {
  readonly bytes: Uint8Array;
  /** `look up`: the connection decides. */
  readonly states: number | 'look up';
  readonly protocol: number;
  /** Of a TCP segment. */
  readonly kind: SegmentKind;
  /** Shown with connections of all kinds, not only without one. */
  readonly often: boolean;
}

export function lookupSubjects(): Subject[] {
  return POINTS.flatMap((point) =>
    (['ipv4', 'ipv6'] as const).map((family) => ({
      // Writes a program for each packet.
      write: () => {
        const found = difference(point, family);
        return () => found;
      },
    })),
  );
}

function difference(point: AttachPoint, family: Family): string | undefined {
  let asked: Asked | undefined;
  let found: FoundConnection | undefined;
  let lookups = 0;
  const machine = new LookupMachine(point, family, buildLookup(point, family), (request) => {
    lookups += 1;
    const wrong = wrongRequest(request, family, asked!);
    if (wrong !== undefined) throw new Error(`asks for another ${wrong}`);
    return found;
  });
  for (const one of packets(family)) {
    asked = one;
    for (const connection of one.often ? connections(one) : [undefined]) {
      found = connection;
      lookups = 0;
      const states = machine.states(one.bytes);
      const wanted = one.states === 'look up' ? judge(one, connection) : one.states;
      const packet = (): string => `${Buffer.from(one.bytes).toString('hex')} ${JSON.stringify(connection)}`;
      if (states !== wanted) return `${states} for ${wanted}: ${packet()}`;
      if (lookups !== (one.states === 'look up' ? 1 : 0)) return `${lookups} look-ups: ${packet()}`;
    }
  }
  return undefined;
}

function wrongRequest(request: TupleRequest, family: Family, { protocol }: Asked): string | undefined {
  const same = (a: Uint8Array, b: Uint8Array): boolean =>
    a.length === b.length && a.every((byte, index) => byte === b[index]);
  if (request.protocol !== protocol) return 'protocol';
  if (request.netns !== -1) return 'namespace';
  if (request.sourcePort !== PORTS[0] || request.destinationPort !== PORTS[1]) return 'port';
  if (!same(request.sourceAddress, INTERESTING[family][0]!)) return 'source';
  return same(request.destinationAddress, INTERESTING[family][1]!) ? undefined : 'destination';
}

/** nf_conntrack_in() as far as the entry alone decides. */
function judge({ protocol, kind }: Asked, found: FoundConnection | undefined): number {
  if (found === undefined) {
    if (protocol === UDP || kind === SegmentKind.SYN) return StateSet.opening;
    return kind === SegmentKind.ACK ? StateSet.midway : StateSet.invalid;
  }
  const { entry, direction } = found;
  const resolved =
    direction === 'reply' || (entry.status & IPS.SEEN_REPLY) !== 0
      ? StateSet.established
      : (entry.status & IPS.EXPECTED) !== 0
        ? StateSet.related
        : StateSet.new;
  const { tcp } = entry;
  if (protocol !== TCP || tcp === undefined) return resolved;
  const side = direction === 'original' ? 0 : 1;
  const step = transition(side, kind, tcp.state as TcpState);
  if (step === 'invalid') return StateSet.invalid;
  if (step !== TcpState.SYN_SENT || tcp.state < TcpState.TIME_WAIT) return resolved;
  const closed = tcp.sides.some(({ flags }) => (flags & TcpFlag.CLOSE_INIT) !== 0);
  const aborted = tcp.lastSide === side && tcp.lastKind === SegmentKind.RST;
  return closed || aborted ? StateSet.opening : resolved;
}

/** No connection, and those of every state, status and direction that tell the packet from others. */
function connections({ protocol }: Asked): readonly (FoundConnection | undefined)[] {
  const statuses = [0, IPS.EXPECTED, IPS.SEEN_REPLY, IPS.SEEN_REPLY | IPS.EXPECTED, IPS.CONFIRMED];
  const directions = ['original', 'reply'] as const;
  const bare = directions.flatMap((direction) =>
    statuses.map((status) => ({ direction, entry: { status } })),
  );
  if (protocol === UDP) return [undefined, ...bare];
  const others = 0xff & ~TcpFlag.CLOSE_INIT;
  const histories = [
    { sides: [{ flags: others }, { flags: others }], lastSide: 0, lastKind: SegmentKind.RST },
    { sides: [{ flags: 0 }, { flags: 0 }], lastSide: 1, lastKind: SegmentKind.RST },
    { sides: [{ flags: others }, { flags: others }], lastSide: 0, lastKind: SegmentKind.ACK },
    { sides: [{ flags: 0 }, { flags: 0 }], lastSide: 1, lastKind: SegmentKind.NONE },
    { sides: [{ flags: TcpFlag.CLOSE_INIT }, { flags: 0 }], lastSide: 0, lastKind: SegmentKind.ACK },
    { sides: [{ flags: 0 }, { flags: TcpFlag.CLOSE_INIT }], lastSide: 1, lastKind: SegmentKind.ACK },
  ];
  const states = Object.values(TcpState);
  return [
    undefined,
    ...bare.map(({ direction, entry }) => ({
      direction,
      entry: { ...entry, tcp: { state: TcpState.ESTABLISHED, ...histories[2]! } },
    })),
    ...directions.flatMap((direction) =>
      states.flatMap((state) =>
        (state < TcpState.TIME_WAIT ? histories.slice(2, 3) : histories).map((history) => ({
          direction,
          entry: { status: 0, tcp: { state, ...history } },
        })),
      ),
    ),
  ];
}

function packets(family: Family): Asked[] {
  const asked: Asked[] = [];
  const first: Fragment = { offset: 0, more: true, reserved: 0 };
  const pieces = [undefined, first, { ...first, offset: 3 }, { ...first, offset: 3, more: false }];
  const add = (transport: Transport, states: Asked['states'], more: Partial<Shape> = {}): Uint8Array => {
    const bytes = buildPacket({ ...base(family), transport, ...more });
    const protocol = transport.kind === 'tcp' ? TCP : transport.kind === 'ports' ? transport.protocol : 0;
    asked.push({ bytes, states, protocol, kind: SegmentKind.NONE, often: false });
    return bytes;
  };
  const at = (fragment: Fragment | undefined): number =>
    family === 'ipv6' && fragment !== undefined ? FRAGMENT_HEADER : 0;
  const last = (change: Partial<Asked>): void => void asked.push({ ...asked.pop()!, ...change });

  for (const protocol of [0, 1, 5, 7, 16, 18, 47, 58, 132, 136])
    add({ kind: 'raw', protocol }, StateSet.unknown);
  for (const fragment of pieces) {
    const more = fragment === undefined ? {} : { fragment };
    const later = (fragment?.offset ?? 0) > 0;
    const short = later || fragment !== undefined ? StateSet.unknown : StateSet.invalid;
    for (let cut = 0; cut <= TCP_HEADER + 4; cut++) {
      const whole = later ? StateSet.unknown : 'look up';
      const cutAt = at(fragment) + cut;
      add(
        udp(),
        cut < UDP_HEADER
          ? short
          : later
            ? StateSet.unknown
            : fragment === undefined
              ? StateSet.invalid
              : whole,
        {
          ...more,
          payloadBytes: 40,
          cutAt,
        },
      );
      add(tcp(0x10), cut < TCP_HEADER ? short : whole, { ...more, payloadBytes: 40, cutAt });
      if (cut >= TCP_HEADER && !later) last({ kind: SegmentKind.ACK });
    }
    if (later) continue;
    // What the headers say of their own length, with eight bytes behind the shortest.
    for (const length of [0, 1, 7, 8, 9, 15, 16, 17, 256, 2048, 0xffff]) {
      const bytes = add(udp(), 'look up', { ...more, payloadBytes: 8 });
      new DataView(bytes.buffer).setUint16(HEADER[family] + at(fragment) + 4, length);
      if (fragment === undefined && (length < UDP_HEADER || length > 16)) last({ states: StateSet.invalid });
    }
    for (let words = 0; words < 16; words++) {
      const bytes = add(tcp(0x10), 'look up', { ...more, payloadBytes: 8 });
      bytes[HEADER[family] + at(fragment) + 12] = words << 4;
      const fits = words >= 5 && (fragment !== undefined || words <= 7);
      last(fits ? { kind: SegmentKind.ACK } : { states: StateSet.invalid });
    }
  }
  for (let flags = 0; flags < 256; flags++) {
    const bytes = add(tcp(flags), 'look up');
    const segment = segmentAt(bytes, HEADER[family]);
    // Pushed data and congestion bits make no difference: with them once is enough.
    if ((flags & 0xc8) !== 0 && (flags & 0x37) !== 0x12) asked.pop();
    else last(segment === undefined ? { states: StateSet.invalid } : { kind: segment.kind, often: true });
  }
  add(udp(), 'look up');
  last({ often: true });
  if (family === 'ipv6') {
    const hop = { kind: 'destination', words: 0 } as const;
    add(udp(), 'look up', { extensions: [hop] });
    // A chain that leads behind the packet's end.
    add(tcp(0x10), StateSet.invalid, { extensions: [hop, { kind: 'routing', words: 9 }], cutAt: 24 });
  }
  return asked;
}

function tcp(flags: number): Transport {
  const numbers = { seq: 1, ack: 2, window: 3 };
  const [sourcePort, destinationPort] = PORTS;
  return { kind: 'tcp', sourcePort, destinationPort, flags, options: new Uint8Array(0), ...numbers };
}

function udp(): Transport {
  return { kind: 'ports', protocol: UDP, sourcePort: PORTS[0], destinationPort: PORTS[1] };
}

function base(family: Family): Shape {
  return {
    family,
    source: INTERESTING[family][0]!,
    destination: INTERESTING[family][1]!,
    tos: 0,
    ttl: 64,
    id: 1,
    dontFragment: false,
    ipOptions: new Uint8Array(0),
    extensions: [],
    transport: { kind: 'raw', protocol: 47 },
    payloadBytes: 0,
    inDevice: 'eth0',
    sourceMac: new Uint8Array(6),
  };
}
