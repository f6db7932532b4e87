/**
 * Random conversations between a client and a server through a router, for connection tracking: TCP segments close to
 * what the two would really send, each now and then off by a little or a lot; UDP and ICMP with errors about them.
 */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import { DEFAULT_SOURCE_MAC } from './packets.ts';
import { buildPacket, type SctpChunkShape, type Shape, type Transport } from './shape.ts';
import { prefix } from './world.ts';

/** The client is a neighbour on eth0, the server one on eth1. */
const PARTIES = {
  ipv4: ['10.7.0.2', '172.16.9.5'],
  ipv6: ['fd07::2', 'fd09:0:0:9::5'],
} as const;

/** What one step sends. Numbers are relative to what the two sides have really said so far. */
type Step =
  | {
      readonly kind: 'tcp';
      readonly flow: number;
      readonly side: 0 | 1;
      readonly flags: number;
      readonly seqOff: number;
      readonly ackOff: number;
      readonly window: number;
      readonly payload: number;
      readonly options: Uint8Array;
      readonly damage: Damage;
    }
  | {
      readonly kind: 'udp';
      readonly flow: number;
      readonly side: 0 | 1;
      readonly protocol: number;
      /** Of the checksum: conntrack takes that of UDP for UDP-Lite, too. */
      readonly pseudoProtocol: number;
      readonly damage: Damage;
    }
  | {
      readonly kind: 'echo';
      readonly flow: number;
      readonly side: 0 | 1;
      readonly type: number;
      readonly damage: Damage;
    }
  /** Tags are small numbers, so that they meet. */
  | {
      readonly kind: 'sctp';
      readonly side: 0 | 1;
      readonly chunks: readonly SctpChunkShape[];
      readonly tag: number;
      readonly damage: Damage;
    }
  /** An ICMP error of this type about the packet sent so many steps ago, by the side that got it or by a stranger. */
  | {
      readonly kind: 'error';
      readonly back: number;
      readonly type: number;
      readonly from: 'peer' | 'sender';
      readonly cut: number;
    }
  | { readonly kind: 'other'; readonly side: 0 | 1; readonly protocol: number };

type Damage = 'none' | 'checksum' | 'cut';

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const PSH = 0x08;
const ACK = 0x10;

const offset = fc.oneof(
  { weight: 14, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.constantFrom(-1, 1, -2, 2) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      -1460,
      1460,
      -64_240,
      64_240,
      64_241,
      -66_001,
      70_000,
      -70_000,
      1_000_000,
      -1_000_000,
      0x7fffffff,
    ),
  },
);
const SACK_PERMITTED = [4, 2];
const WINDOW_SCALE = [3, 3, 7];
const options = fc.constantFrom(
  new Uint8Array(0),
  Uint8Array.of(2, 4, 5, 180, ...SACK_PERMITTED, 1, 1, 1, ...WINDOW_SCALE),
  Uint8Array.of(...WINDOW_SCALE),
  Uint8Array.of(3, 3, 14, 1),
  Uint8Array.of(...SACK_PERMITTED, 1, 1),
);
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 40, arbitrary: fc.constant<Damage>('none') },
  { weight: 1, arbitrary: fc.constantFrom<Damage>('checksum', 'cut') },
);
const side = fc.constantFrom<0 | 1>(0, 1);
const flow = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) });

const tcpStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant('tcp' as const),
  flow,
  side,
  flags: fc.oneof(
    { weight: 3, arbitrary: fc.constant(ACK) },
    { weight: 3, arbitrary: fc.constant(ACK | PSH) },
    { weight: 2, arbitrary: fc.constantFrom(SYN, SYN | ACK) },
    { weight: 2, arbitrary: fc.constantFrom(FIN | ACK, RST, RST | ACK) },
    { weight: 1, arbitrary: fc.nat(0x3f) },
  ),
  seqOff: offset,
  ackOff: offset,
  window: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(64_240, 1000, 65_535) },
    { weight: 1, arbitrary: fc.constantFrom(0, 1) },
  ),
  payload: fc.oneof(
    { weight: 2, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(1, 100, 1300) },
  ),
  options,
  damage,
});

/** The opening of a connection, so that most conversations get somewhere. */
const handshake: readonly Step[] = (
  [
    [0, SYN],
    [1, SYN | ACK],
    [0, ACK],
  ] as const
).map(([from, flags]) => ({
  kind: 'tcp',
  flow: 0,
  side: from,
  flags,
  seqOff: 0,
  ackOff: 0,
  window: 64_240,
  payload: 0,
  options:
    flags === ACK
      ? new Uint8Array(0)
      : Uint8Array.of(2, 4, 5, 180, ...SACK_PERMITTED, 1, 1, 1, ...WINDOW_SCALE),
  damage: 'none',
}));

/** Tags: the client uses 2, the server 1; each puts the other's in its header. */
const TAGS = [0, 1, 2] as const;
const chunk: fc.Arbitrary<SctpChunkShape> = fc.record({
  type: fc.constantFrom(0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 64),
  flags: fc.constantFrom(0, 0, 0, 1, 3),
  length: fc.constantFrom(20, 20, 20, 4, 16, 0),
  word: fc.constantFrom(...TAGS),
});
const sctpStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant('sctp' as const),
  side,
  chunks: fc.oneof(
    { weight: 5, arbitrary: fc.tuple(chunk) },
    { weight: 1, arbitrary: fc.array(chunk, { maxLength: 3 }) },
  ),
  tag: fc.constantFrom(...TAGS),
  damage,
});
/** INIT, INIT ACK, COOKIE ECHO, COOKIE ACK. */
const association: readonly Step[] = (
  [
    [0, 1, 0, 2],
    [1, 2, 2, 1],
    [0, 10, 1, 0],
    [1, 11, 2, 0],
  ] as const
).map(([from, type, tag, word]) => ({
  kind: 'sctp',
  side: from,
  chunks: [{ type, flags: 0, length: 20, word }],
  tag,
  damage: 'none',
}));

function otherStep(family: Family): fc.Arbitrary<Step> {
  const echoes =
    family === 'ipv4'
      ? [8, 0, 8, 0, 13, 14, 15, 17, 18, 3, 30]
      : [128, 129, 128, 129, 133, 135, 136, 139, 140, 143, 200];
  const errors = family === 'ipv4' ? [3, 4, 5, 11, 12] : [1, 2, 3, 4, 127];
  return fc.oneof(
    fc.record({
      kind: fc.constant('udp' as const),
      flow,
      side,
      protocol: fc.constantFrom(17, 17, 17, 136),
      pseudoProtocol: fc.constantFrom(17, 17, 17, 17, 17, 136),
      damage,
    }),
    fc.record({ kind: fc.constant('echo' as const), flow, side, type: fc.constantFrom(...echoes), damage }),
    fc.record({
      kind: fc.constant('error' as const),
      back: fc.nat(4),
      type: fc.constantFrom(...errors),
      from: fc.constantFrom<'peer' | 'sender'>('peer', 'peer', 'peer', 'sender'),
      cut: fc.constantFrom(1000, 1000, 28, 48, 20, 12, 2),
    }),
    fc.record({
      kind: fc.constant('other' as const),
      side,
      protocol: fc.constantFrom(47, 50, 136, 200),
    }),
  );
}

/** The packets of one conversation, in order. */
export function conversation(family: Family): fc.Arbitrary<readonly Shape[]> {
  const begin = fc.constantFrom<readonly Step[]>(
    [],
    handshake.slice(0, 1),
    handshake.slice(0, 2),
    handshake,
    handshake,
  );
  const tcp = fc
    .tuple(begin, fc.array(tcpStep, { maxLength: 24 }))
    .map(([first, rest]) => [...first, ...rest]);
  const sctp = fc
    .tuple(fc.nat(association.length), fc.array(sctpStep, { maxLength: 16 }))
    .map(([opened, rest]) => [...association.slice(0, opened), ...rest]);
  const mixed = fc.array(
    fc.oneof({ weight: 2, arbitrary: otherStep(family) }, { weight: 1, arbitrary: tcpStep }),
    { maxLength: 24 },
  );
  const withErrors = fc.tuple(begin, mixed).map(([first, rest]) => [...first, ...rest]);
  return fc
    .tuple(
      fc.oneof(
        { weight: 3, arbitrary: tcp },
        { weight: 2, arbitrary: withErrors },
        { weight: 2, arbitrary: sctp },
      ),
      fc.constantFrom(1000, 0xfffffff0),
      fc.nat(999),
    )
    .map(([steps, initial, base]) => shapesOf(family, steps, initial, base));
}

function shapesOf(family: Family, steps: readonly Step[], initial: number, base: number): Shape[] {
  const parties = PARTIES[family].map((text) => prefix(text).address.bytes);
  /** By flow and side: the next sequence number each would send. */
  const next = [0, 1].map(() => [initial, (initial + 4000) >>> 0]);
  const shapes: Shape[] = [];
  for (const step of steps) {
    const from = step.kind === 'error' ? errorSide(shapes, step, parties) : step.side;
    const shape: Shape = {
      family,
      source: parties[from]!,
      destination: parties[1 - from]!,
      tos: 0,
      ttl: 64,
      id: shapes.length + 1,
      dontFragment: true,
      ipOptions: new Uint8Array(0),
      extensions: [],
      transport: { kind: 'raw', protocol: 200 },
      payloadBytes: 16,
      inDevice: from === 0 ? 'eth0' : 'eth1',
      sourceMac: DEFAULT_SOURCE_MAC,
    };
    shapes.push({ ...shape, ...contentOf(step, shapes, next, base, family) });
  }
  return shapes;
}

function errorSide(
  shapes: readonly Shape[],
  step: Step & { kind: 'error' },
  parties: readonly Uint8Array[],
): 0 | 1 {
  const about = shapes.at(-1 - step.back);
  const sender = about !== undefined && about.source === parties[1] ? 1 : 0;
  if (step.from === 'sender') return sender;
  return sender === 0 ? 1 : 0;
}

function contentOf(
  step: Step,
  before: readonly Shape[],
  next: readonly number[][],
  base: number,
  family: Family,
): Partial<Shape> {
  switch (step.kind) {
    case 'tcp': {
      const own = next[step.flow]!;
      const seq = (own[step.side]! + step.seqOff) >>> 0;
      const ack = (step.flags & ACK) === 0 ? 0 : (own[1 - step.side]! + step.ackOff) >>> 0;
      const length = step.payload + ((step.flags & SYN) !== 0 ? 1 : 0) + ((step.flags & FIN) !== 0 ? 1 : 0);
      if (step.seqOff === 0) own[step.side] = (seq + length) >>> 0;
      const client = 30_000 + base + step.flow;
      const transport: Transport = {
        kind: 'tcp',
        sourcePort: step.side === 0 ? client : 80,
        destinationPort: step.side === 0 ? 80 : client,
        flags: step.flags,
        options: step.options,
        seq,
        ack,
        window: step.window,
      };
      return { transport, payloadBytes: step.payload, ...damaged(step.damage) };
    }
    case 'udp': {
      const client = 20_000 + base + step.flow;
      const [sourcePort, destinationPort] = step.side === 0 ? [client, 53] : [53, client];
      return {
        transport: {
          kind: 'ports',
          protocol: step.protocol,
          pseudoProtocol: step.pseudoProtocol,
          sourcePort,
          destinationPort,
        },
        ...damaged(step.damage),
      };
    }
    case 'sctp': {
      const client = 40_000 + base;
      const [sourcePort, destinationPort] = step.side === 0 ? [client, 80] : [80, client];
      const { chunks, tag } = step;
      return {
        transport: { kind: 'sctp', sourcePort, destinationPort, chunks, tag },
        ...damaged(step.damage),
      };
    }
    case 'echo':
      return {
        transport: { kind: 'icmp', type: step.type, code: 0, id: base + step.flow },
        ...damaged(step.damage),
      };
    case 'error': {
      const about = before.at(-1 - step.back);
      const quoted = about === undefined ? new Uint8Array(28) : buildPacket(about).subarray(0, step.cut);
      return {
        transport: { kind: 'icmp', type: step.type, code: family === 'ipv4' ? 3 : 0, id: 0 },
        payload: quoted,
        payloadBytes: quoted.length,
      };
    }
    case 'other':
      return { transport: { kind: 'raw', protocol: step.protocol } };
  }
}

function damaged(how: Damage): Partial<Shape> {
  if (how === 'checksum') return { wrongChecksum: true };
  return how === 'cut' ? { cutAt: 6 } : {};
}
