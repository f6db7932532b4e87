/** `-p` with the matches that need it, as text with aims. */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import { type Aim, boundaries, type Piece } from './aim.ts';
import { negation } from './base-pieces.ts';
import type { Transport } from './shape.ts';

const INTERESTING_PORTS = [0, 1, 22, 53, 80, 443, 1023, 1024, 8080, 65_534, 65_535] as const;

export const port: fc.Arbitrary<number> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<number>(...INTERESTING_PORTS) },
  { weight: 1, arbitrary: fc.nat(65_535) },
);

const portRange: fc.Arbitrary<readonly [number, number]> = fc.oneof(
  port.map((value) => [value, value] as const),
  fc.tuple(port, port).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const),
);

export const TCP: Transport = {
  kind: 'tcp',
  sourcePort: 40_000,
  destinationPort: 80,
  flags: 0x02,
  options: new Uint8Array(0),
  seq: 1000,
  ack: 0,
  window: 64_240,
};

export function ports(protocol: number): Transport {
  return { kind: 'ports', protocol, sourcePort: 40_000, destinationPort: 53 };
}

export const SCTP: Transport = {
  kind: 'sctp',
  sourcePort: 40_000,
  destinationPort: 53,
  chunks: [{ type: 1, flags: 0, length: 20 }],
};

function portWords(not: string, side: 's' | 'd', [min, max]: readonly [number, number]): string {
  return `${not}--${side}port ${min === max ? min : `${min}:${max}`}`;
}

function portAims(side: 's' | 'd', [min, max]: readonly [number, number], transport: Transport): Aim[] {
  return boundaries(min, max, 65_535).map((value) =>
    side === 's' ? { transport, sourcePort: value } : { transport, destinationPort: value },
  );
}

/** `--sport`, `--dport` or both, for one match name. */
export function portsPiece(name: string, transport: Transport): fc.Arbitrary<Piece> {
  return fc
    .tuple(fc.constantFrom('s', 'd', 'both'), negation, portRange, negation, portRange)
    .map(([which, not, first, not2, second]) => {
      const words = [`-m ${name}`];
      const aims: Aim[] = [];
      if (which !== 'd') {
        words.push(portWords(not, 's', first));
        aims.push(...portAims('s', first, transport));
      }
      if (which !== 's') {
        words.push(portWords(not2, 'd', second));
        aims.push(...portAims('d', second, transport));
      }
      return { text: words.join(' '), aims };
    });
}

const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'] as const;

function flagBits(names: readonly string[]): number {
  return names.reduce((bits, name) => bits | (1 << TCP_FLAGS.indexOf(name as (typeof TCP_FLAGS)[number])), 0);
}

export const tcpFlagsPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.subarray([...TCP_FLAGS], { minLength: 1 }), fc.nat(63))
  .map(([not, mask, chosen]) => {
    const compare = mask.filter((_, index) => ((chosen >> index) & 1) === 1);
    const want = flagBits(compare);
    const bits = flagBits(mask);
    return {
      text: `-m tcp ${not}--tcp-flags ${mask.join(',')} ${compare.length === 0 ? 'NONE' : compare.join(',')}`,
      aims: [want, want ^ (bits & -bits), want | (~bits & 0x3f), want | 0xc0].map(
        (tcpFlags): Aim => ({ transport: TCP, tcpFlags }),
      ),
    };
  });

export const synPiece: fc.Arbitrary<Piece> = negation.map((not) => ({
  text: `-m tcp ${not}--syn`,
  aims: [0x02, 0x12, 0x10, 0x03, 0x06].map((tcpFlags): Aim => ({ transport: TCP, tcpFlags })),
}));

/** Option lists: sound, nested behind others, broken lengths, cut at the end. */
function optionLists(kind: number): Uint8Array[] {
  return [
    Uint8Array.of(kind, 2, 1, 1),
    Uint8Array.of(1, 1, 1, kind),
    Uint8Array.of(2, 4, 5, 180, 1, kind, 2, 0),
    Uint8Array.of(8, 10, kind, kind, kind, kind, 0, 0, 0, 0, 0, 0),
    Uint8Array.of(3, 0, kind, 2),
    Uint8Array.of(kind === 255 ? 254 : kind + 1, 200, kind, 2),
  ];
}

export const tcpOptionPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom(2, 3, 4, 5, 8, 19, 254, 255))
  .map(([not, kind]) => ({
    text: `-m tcp ${not}--tcp-option ${kind}`,
    aims: [new Uint8Array(0), ...optionLists(kind)].map(
      (tcpOptions): Aim => ({ transport: TCP, tcpOptions }),
    ),
  }));

export function multiportPiece(transport: Transport): fc.Arbitrary<Piece> {
  const list = fc.array(portRange, { minLength: 1, maxLength: 5 });
  return fc
    .tuple(fc.constantFrom('sports', 'dports', 'ports'), negation, list)
    .map(([option, not, ranges]) => {
      const words = ranges.map(([min, max]) => (min === max ? String(min) : `${min}:${max}`));
      const values = ranges.flatMap(([min, max]) => boundaries(min, max, 65_535));
      return {
        text: `-m multiport ${not}--${option} ${words.join(',')}`,
        aims: values.flatMap((value): Aim[] => [
          ...(option === 'dports' ? [] : [{ transport, sourcePort: value }]),
          ...(option === 'sports' ? [] : [{ transport, destinationPort: value }]),
        ]),
      };
    });
}

export function icmpPiece(family: Family): fc.Arbitrary<Piece> {
  const [name, option] = family === 'ipv4' ? ['icmp', 'icmp-type'] : ['icmp6', 'icmpv6-type'];
  // 255 is "any" in IPv4.
  const type = fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 11, 13, 18, 128, 129, 133, 135, 200);
  return fc
    .tuple(negation, type, fc.option(fc.constantFrom(0, 1, 3, 254, 255)))
    .map(([not, value, code]) => ({
      text: `-m ${name} ${not}--${option} ${value}${code === null ? '' : `/${code}`}`,
      aims: [0, -1, 1].flatMap((step) =>
        [(code ?? 0) - 1, code ?? 0, (code ?? 0) + 1].map(
          (own): Aim => ({
            transport: { kind: 'icmp', type: (value + step) & 255, code: own & 255, id: 7 },
          }),
        ),
      ),
    }));
}

const CHUNKS = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  SACK: 3,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_COMPLETE: 14,
} as const;
type ChunkName = keyof typeof CHUNKS;

function sctp(chunks: readonly { type: number; flags: number; length?: number }[]): Aim {
  return { transport: { ...SCTP, chunks: chunks.map((chunk) => ({ length: 16, ...chunk })) } as Transport };
}

export const chunkPiece: fc.Arbitrary<Piece> = fc
  .tuple(
    negation,
    fc.constantFrom('any', 'all', 'only'),
    fc.uniqueArray(fc.constantFrom(...(Object.keys(CHUNKS) as ChunkName[])), { minLength: 1, maxLength: 3 }),
    fc.boolean(),
  )
  .map(([not, mode, chosen, flagged]) => {
    const names = flagged ? [...new Set<ChunkName>(['DATA', ...chosen])] : chosen;
    const words = names.map((name) => (flagged && name === 'DATA' ? 'DATA:Be' : name));
    const types = names.map((name) => CHUNKS[name]);
    return {
      text: `-m sctp ${not}--chunk-types ${mode} ${words.join(',')}`,
      aims: [
        sctp(types.map((type) => ({ type, flags: 0 }))),
        sctp(types.map((type) => ({ type, flags: 2 }))),
        sctp(types.map((type) => ({ type, flags: 3 }))),
        sctp([...types, 9].map((type) => ({ type, flags: 0 }))),
        sctp(types.slice(1).map((type) => ({ type, flags: 0 }))),
        sctp([{ type: 9, flags: 0 }]),
        // A chunk of no length ends the walk with a drop.
        sctp([{ type: 9, flags: 0, length: 0 }, ...types.map((type) => ({ type, flags: 0 }))]),
        sctp([{ type: types[0]!, flags: 0, length: 9000 }]),
      ],
    };
  });

const spiRange = fc
  .tuple(fc.nat(0xffffffff), fc.nat(300))
  .map(([min, more]) => [min, Math.min(0xffffffff, min + more)] as const);

export const espPiece: fc.Arbitrary<Piece> = fc.tuple(negation, spiRange).map(([not, [min, max]]) => ({
  text: `-m esp ${not}--espspi ${min}:${max}`,
  aims: boundaries(min, max, 0xffffffff).map((spi): Aim => ({ transport: { kind: 'esp', spi } })),
}));

export const ahPiece: fc.Arbitrary<Piece> = fc.tuple(negation, spiRange).map(([not, [min, max]]) => ({
  text: `-m ah ${not}--ahspi ${min}:${max}`,
  aims: boundaries(min, max, 0xffffffff).map(
    (spi): Aim => ({ transport: { kind: 'ah', spi, reserved: 0, words: 4 } }),
  ),
}));

/** In IPv6 the header is one of the chain, whatever the transport. */
export const ah6Piece: fc.Arbitrary<Piece> = fc
  .tuple(negation, spiRange, fc.option(fc.constantFrom(24, 16, 12)), fc.boolean())
  .map(([not, [min, max], length, reserved]) => {
    const words = [`-m ah ${not}--ahspi ${min}:${max}`];
    if (length !== null) words.push(`--ahlen ${length}`);
    if (reserved) words.push('--ahres');
    const header = (spi: number, headerWords: number, own: number): Aim => ({
      extensions: [{ kind: 'ah', spi, reserved: own, words: headerWords }],
    });
    return {
      text: words.join(' '),
      aims: [
        ...boundaries(min, max, 0xffffffff).map((spi) => header(spi, 4, 0)),
        header(min, 2, 0),
        header(max, 1, 0),
        header(min, 4, 9),
      ],
    };
  });

export interface ProtocolPieces {
  /** `-p …` */
  readonly protocol: Piece;
  readonly matches: fc.Arbitrary<Piece> | undefined;
}

function plain(text: string, transport: Transport): Piece {
  return { text: `-p ${text}`, aims: [{ transport }] };
}

/** A protocol and what may go with it; negated protocols allow nothing more. */
export function protocolPieces(family: Family): fc.Arbitrary<ProtocolPieces> {
  const tcp = fc.oneof(portsPiece('tcp', TCP), tcpFlagsPiece, synPiece, tcpOptionPiece, multiportPiece(TCP));
  const udp = fc.oneof(portsPiece('udp', ports(17)), multiportPiece(ports(17)));
  const icmpName = family === 'ipv4' ? 'icmp' : 'ipv6-icmp';
  const icmp: Transport = { kind: 'icmp', type: family === 'ipv4' ? 8 : 128, code: 0, id: 7 };
  const choices: ProtocolPieces[] = [
    { protocol: plain('tcp', TCP), matches: tcp },
    { protocol: plain('tcp', TCP), matches: tcp },
    { protocol: plain('udp', ports(17)), matches: udp },
    { protocol: plain(icmpName, icmp), matches: icmpPiece(family) },
    {
      protocol: plain('sctp', SCTP),
      matches: fc.oneof(portsPiece('sctp', SCTP), chunkPiece, multiportPiece(SCTP)),
    },
    { protocol: plain('esp', { kind: 'esp', spi: 1 }), matches: espPiece },
    { protocol: plain('udplite', ports(136)), matches: multiportPiece(ports(136)) },
    { protocol: plain('47', { kind: 'raw', protocol: 47 }), matches: undefined },
    {
      protocol: { text: '! -p tcp', aims: [{ transport: TCP }, { transport: ports(17) }] },
      matches: undefined,
    },
    {
      protocol: { text: '! -p 17', aims: [{ transport: TCP }, { transport: ports(17) }] },
      matches: undefined,
    },
  ];
  if (family === 'ipv4') {
    const ah: Transport = { kind: 'ah', spi: 1, reserved: 0, words: 4 };
    choices.push({ protocol: plain('ah', ah), matches: ahPiece });
  }
  return fc.constantFrom(...choices);
}
