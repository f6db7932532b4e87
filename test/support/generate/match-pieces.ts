/** Matches that need no protocol, as text with aims. */
import fc from 'fast-check';
import { type Family, formatAddressBytes } from '../../../src/net/index.ts';
import { type Aim, boundaries, neighbour, type Piece } from './aim.ts';
import { address, negation } from './base-pieces.ts';
import { INTERESTING } from './world.ts';

function range(maximum: number): fc.Arbitrary<readonly [number, number]> {
  return fc
    .tuple(fc.nat(maximum), fc.nat(maximum))
    .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
}

export const lengthPiece: fc.Arbitrary<Piece> = fc
  .tuple(
    negation,
    fc.oneof(
      fc.tuple(fc.integer({ min: 20, max: 200 }), fc.integer({ min: 0, max: 200 })),
      fc.tuple(fc.constant(0), fc.constant(65_535)),
    ),
  )
  .map(([not, [min, more]]) => {
    const max = Math.min(0xffff, min + more);
    return {
      text: `-m length ${not}--length ${min}:${max}`,
      aims: boundaries(min, max, 1400)
        .filter((value) => value >= 60)
        .map((totalLength) => ({ totalLength })),
    };
  });

/** `ttl` for IPv4, `hl` for IPv6. */
export function hopsPiece(family: Family): fc.Arbitrary<Piece> {
  const name = family === 'ipv4' ? 'ttl' : 'hl';
  return fc
    .tuple(fc.constantFrom('eq', 'lt', 'gt', 'not'), fc.integer({ min: 2, max: 255 }))
    .map(([mode, value]) => ({
      text: mode === 'not' ? `-m ${name} ! --${name}-eq ${value}` : `-m ${name} --${name}-${mode} ${value}`,
      // Forwarding lowers it by one before the hook.
      aims: [value - 1, value, value + 1, value + 2]
        .filter((ttl) => ttl >= 1 && ttl <= 255)
        .map((ttl) => ({ ttl })),
    }));
}

export const tosPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.nat(255), fc.constantFrom(0xff, 0x3f, 0xfc, 0x10, 0))
  .map(([not, value, mask]) => ({
    text: `-m tos ${not}--tos 0x${(value & mask).toString(16)}/0x${mask.toString(16)}`,
    aims: [value & mask, (value & mask) | (~mask & 0xff), (value & mask) ^ 1, (value & mask) ^ 0x80].map(
      (tos) => ({ tos }),
    ),
  }));

export const dscpPiece: fc.Arbitrary<Piece> = fc.tuple(negation, fc.nat(63)).map(([not, value]) => ({
  text: `-m dscp ${not}--dscp 0x${value.toString(16)}`,
  aims: [value << 2, (value << 2) | 3, ((value + 1) & 63) << 2].map((tos) => ({ tos })),
}));

const MACS = [
  Uint8Array.of(2, 0, 0, 0, 0, 0x77),
  Uint8Array.of(2, 0, 0, 0, 0, 0x78),
  Uint8Array.of(0xfe, 0xff, 1, 2, 3, 4),
];

export const macPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom(...MACS))
  .map(([not, mac]) => ({
    text: `-m mac ${not}--mac-source ${[...mac].map((byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':')}`,
    aims: MACS.map((sourceMac) => ({ sourceMac })),
  }));

const BROADCAST_MAC = Uint8Array.of(255, 255, 255, 255, 255, 255);
const MULTICAST_MAC = Uint8Array.of(0x01, 0, 0x5e, 0, 0, 1);

export const pkttypePiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom('unicast', 'broadcast', 'multicast'))
  .map(([not, type]) => ({
    text: `-m pkttype ${not}--pkt-type ${type}`,
    aims: [{}, { destinationMac: BROADCAST_MAC }, { destinationMac: MULTICAST_MAC }],
  }));

/** Marks are set in mangle PREROUTING by rules of the generated rulesets. */
export const markPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom(0, 1, 2, 3, 0x10, 0xffffffff), fc.constantFrom(0xffffffff, 1, 0xf0, 0))
  .map(([not, value, mask]) => ({
    text: `-m mark ${not}--mark 0x${((value & mask) >>> 0).toString(16)}/0x${mask.toString(16)}`,
    aims: [],
  }));

export function iprangePiece(family: Family): fc.Arbitrary<Piece> {
  const ordered = fc.tuple(address(family), address(family)).map(([a, b]) => {
    const less = Buffer.compare(a, b) <= 0;
    return less ? ([a, b] as const) : ([b, a] as const);
  });
  return fc
    .tuple(fc.constantFrom('src', 'dst', 'both'), negation, ordered, negation, ordered)
    .map(([which, not, [min, max], not2, [min2, max2]]) => {
      const text = (side: string, word: string, from: Uint8Array, to: Uint8Array): string =>
        `${word}--${side}-range ${formatAddressBytes(from)}-${formatAddressBytes(to)}`;
      const edges = (from: Uint8Array, to: Uint8Array): Uint8Array[] => [
        from,
        to,
        neighbour(from, -1),
        neighbour(to, 1),
      ];
      const sources = edges(min, max).map((source): Aim => ({ source }));
      const destinations = edges(min2, max2).map((destination): Aim => ({ destination }));
      if (which === 'src') return { text: `-m iprange ${text('src', not, min, max)}`, aims: sources };
      if (which === 'dst') return { text: `-m iprange ${text('dst', not2, min2, max2)}`, aims: destinations };
      return {
        text: `-m iprange ${text('src', not, min, max)} ${text('dst', not2, min2, max2)}`,
        aims: [...sources, ...destinations],
      };
    });
}

/** IPv6 has no broadcast. */
const ADDRESS_TYPES: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['UNICAST', 'LOCAL', 'BROADCAST', 'MULTICAST', 'ANYCAST', 'UNSPEC'],
  ipv6: ['UNICAST', 'LOCAL', 'MULTICAST', 'ANYCAST', 'UNSPEC'],
};

/** `limit`: the device that local and broadcast may be limited to, where the rule stands. */
export function addrtypePiece(family: Family, limit: 'in' | 'out' | undefined): fc.Arbitrary<Piece> {
  const types = fc.uniqueArray(fc.constantFrom(...ADDRESS_TYPES[family]), { minLength: 1, maxLength: 3 });
  return fc
    .tuple(fc.constantFrom('src', 'dst', 'both'), negation, types, negation, types, fc.boolean())
    .map(([which, not, first, not2, second, limited]) => {
      const words: string[] = [];
      if (which !== 'dst') words.push(`${not}--src-type ${first.join(',')}`);
      if (which !== 'src') words.push(`${not2}--dst-type ${second.join(',')}`);
      if (limit !== undefined && limited) words.push(`--limit-iface-${limit}`);
      return {
        text: `-m addrtype ${words.join(' ')}`,
        aims: INTERESTING[family].flatMap((own): Aim[] => [{ destination: own }]),
      };
    });
}

/** Refilled so slowly that no test lasts long enough to see it. */
const limitPiece: fc.Arbitrary<Piece> = fc
  .tuple(fc.constantFrom('1/hour', '2/hour', '4/hour'), fc.integer({ min: 1, max: 6 }))
  .map(([rate, burst]) => ({ text: `-m limit --limit ${rate} --limit-burst ${burst}`, aims: [] }));

export const statisticPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.integer({ min: 1, max: 4 }), fc.nat(3))
  .map(([not, every, packet]) => ({
    text: `-m statistic --mode nth ${not}--every ${every} --packet ${packet % every}`,
    aims: [],
  }));

export const certainPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom('0', '1'))
  .map(([not, probability]) => ({
    text: `-m statistic --mode random ${not}--probability ${probability}`,
    aims: [],
  }));

export const commentPiece: fc.Arbitrary<Piece> = fc
  .constantFrom('plain', '"two words"', '"quote \\" and \\\\ inside"')
  .map((text) => ({ text: `-m comment --comment ${text}`, aims: [] }));

/** frag, IPv6: identification, reserved bits, first, more, last. */
export const fragPiece: fc.Arbitrary<Piece> = fc
  .tuple(
    negation,
    range(0xffff),
    fc.subarray(['--fragres', '--fragfirst', '--fragmore'] as const),
    fc.boolean(),
  )
  .map(([not, [min, max], flags, last]) => {
    const words = [`${not}--fragid ${min}:${max}`, ...flags];
    if (last && !flags.includes('--fragmore')) words.push('--fraglast');
    const whole = { offset: 0, more: false, reserved: 0 };
    return {
      text: `-m frag ${words.join(' ')}`,
      aims: [
        ...boundaries(min, max, 0xffffffff).map((id): Aim => ({ id, fragment: { ...whole, more: true } })),
        { id: min, fragment: { offset: 3, more: false, reserved: 0 } },
        { id: min, fragment: { offset: 3, more: true, reserved: 7 } },
        { id: max, fragment: { ...whole, reserved: 1 } },
        { id: min, fragment: { ...whole, reservedBits: 1 } },
        { id: max, fragment: { ...whole, reservedBits: 2 } },
        { id: max, fragment: whole },
      ],
    };
  });

/** Where the rule stands decides some: mac and `--limit-iface-in` may only stand where there is an input device. */
export interface Standing {
  readonly family: Family;
  readonly table: 'raw' | 'mangle' | 'filter';
  /** User chains may be reached from anywhere in their table. */
  readonly chain: string;
}

/** Any match that asks for no protocol. */
export function generalPiece({ family, chain }: Standing): fc.Arbitrary<Piece> {
  const input = chain === 'PREROUTING' || chain === 'INPUT';
  const pieces = [
    lengthPiece,
    hopsPiece(family),
    tosPiece,
    dscpPiece,
    pkttypePiece,
    markPiece,
    iprangePiece(family),
    addrtypePiece(family, input ? 'in' : undefined),
    limitPiece,
    statisticPiece,
    certainPiece,
    commentPiece,
  ];
  if (input || chain === 'FORWARD') pieces.push(macPiece);
  if (family === 'ipv6') pieces.push(fragPiece);
  return fc.oneof(...pieces);
}
