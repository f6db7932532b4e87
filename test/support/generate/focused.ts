/**
 * Rulesets about one extension: many rules without a target, so that each packet is held against all of them at once.
 * Vectors are recorded from these, so that a mistake in any one extension shows.
 */
import fc from 'fast-check';
import { type Family, formatAddressBytes } from '../../../src/net/index.ts';
import type { Piece } from './aim.ts';
import {
  addrtypePiece,
  certainPiece,
  commentPiece,
  dscpPiece,
  fragPiece,
  hopsPiece,
  iprangePiece,
  lengthPiece,
  macPiece,
  markPiece,
  pkttypePiece,
  statisticPiece,
  tosPiece,
} from './match-pieces.ts';
import {
  ah6Piece,
  ahPiece,
  chunkPiece,
  espPiece,
  icmpPiece,
  multiportPiece,
  ports,
  portsPiece,
  SCTP,
  synPiece,
  TCP,
  tcpFlagsPiece,
  tcpOptionPiece,
} from './protocol-pieces.ts';
import { connectionPiece, type GeneratedRule, type GeneratedRuleset } from './rulesets.ts';
import type { Shape } from './shape.ts';

/** What a focused ruleset is made of. */
export interface Focus {
  /** `-p`, when the match needs it. */
  readonly protocol?: string;
  readonly piece: fc.Arbitrary<Piece>;
  /** Where the rules stand; PREROUTING of raw, before anything else, when absent. */
  readonly place?: 'mangle' | 'FORWARD';
}

const TCP_FIELDS = fc.oneof(tcpFlagsPiece, synPiece, tcpOptionPiece);
const SCTP_PIECE = fc.oneof(portsPiece('sctp', SCTP), chunkPiece);

/** By the name after `-m`, and what of it. */
export function focusesOf(family: Family): ReadonlyMap<string, Focus> {
  const own: readonly (readonly [string, Focus])[] =
    family === 'ipv4'
      ? [
          ['icmp', { protocol: 'icmp', piece: icmpPiece('ipv4') }],
          ['ah', { protocol: 'ah', piece: ahPiece }],
          ['ttl', { piece: hopsPiece('ipv4') }],
        ]
      : [
          ['icmp6', { protocol: 'ipv6-icmp', piece: icmpPiece('ipv6') }],
          ['ah', { piece: ah6Piece }],
          ['frag', { piece: fragPiece }],
          ['hl', { piece: hopsPiece('ipv6') }],
        ];
  return new Map<string, Focus>([
    ...own,
    ['tcp, ports', { protocol: 'tcp', piece: portsPiece('tcp', TCP) }],
    ['tcp, flags and options', { protocol: 'tcp', piece: TCP_FIELDS }],
    ['udp', { protocol: 'udp', piece: portsPiece('udp', ports(17)) }],
    ['sctp', { protocol: 'sctp', piece: SCTP_PIECE }],
    ['esp', { protocol: 'esp', piece: espPiece }],
    ['multiport', { protocol: 'tcp', piece: multiportPiece(TCP) }],
    ['addrtype', { piece: addrtypePiece(family, 'in') }],
    ['addrtype, going out', { piece: addrtypePiece(family, 'out'), place: 'FORWARD' }],
    ['comment', { piece: commentPiece }],
    ['dscp', { piece: dscpPiece }],
    ['iprange', { piece: iprangePiece(family) }],
    ['length', { piece: lengthPiece }],
    ['mac', { piece: macPiece }],
    ['mark', { piece: markPiece, place: 'mangle' }],
    ['pkttype', { piece: pkttypePiece }],
    ['statistic', { piece: fc.oneof(statisticPiece, certainPiece) }],
    ['tos', { piece: tosPiece }],
  ]);
}

/** Marks that depend on the packet: each of these is set by some bit of the TOS byte. */
const MARKERS = [
  '-m tos --tos 0x04/0x04 -j MARK --set-xmark 0x1/0xffffffff',
  '-m tos --tos 0x08/0x08 -j MARK --or-mark 0x2',
  '-m tos --tos 0x10/0x10 -j MARK --xor-mark 0x13',
  '-m tos --tos 0x20/0x20 -j MARK --and-mark 0xf1',
  '-m tos --tos 0x40/0x40 -j MARK --set-mark 0xffffffff',
].map((text) => `-A PREROUTING ${text}`);

const RAW = ['*raw', ':PREROUTING ACCEPT [0:0]', ':OUTPUT DROP [0:0]'];
const MANGLE = ['INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`);
const FILTER = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];

function textOf(place: Focus['place'], rules: readonly string[]): string {
  const tables: string[][] = [];
  tables.push(place === undefined ? [...RAW, ...rules, 'COMMIT'] : [...RAW, 'COMMIT']);
  if (place === 'mangle') {
    tables.push(['*mangle', ':PREROUTING ACCEPT [0:0]', ...MANGLE, ...MARKERS, ...rules, 'COMMIT']);
  }
  tables.push(place === 'FORWARD' ? [...FILTER, ...rules, 'COMMIT'] : [...FILTER, 'COMMIT']);
  return `${tables.flat().join('\n')}\n`;
}

/** A ruleset of `rules` rules about one extension. */
export function focusedRuleset(
  family: Family,
  { protocol, piece, place }: Focus,
  rules: number,
): fc.Arbitrary<GeneratedRuleset> {
  const chain = place === 'FORWARD' ? 'FORWARD' : 'PREROUTING';
  const rule = piece.map(
    ({ text, aims }): GeneratedRule => ({
      text: ['-A', chain, ...(protocol === undefined ? [] : ['-p', protocol]), text].join(' '),
      aims: aims.length > 0 ? [aims] : [],
    }),
  );
  return fc.array(rule, { minLength: rules, maxLength: rules, size: 'max' }).map((made) => ({
    family,
    text: textOf(
      place,
      made.map(({ text }) => text),
    ),
    rules: made,
    stateful: false,
  }));
}

/** Conditions on connections: some of any kind, and those at the edges of the addresses and ports of a conversation. */
export function connectionRuleset(
  family: Family,
  talks: readonly Shape[],
  rules: number,
): fc.Arbitrary<GeneratedRuleset> {
  const edges = [...portEdges(talks), ...addressEdges(talks)].map(
    (condition): GeneratedRule => ({
      text: `-A FORWARD -m conntrack ${condition}`,
      aims: [],
    }),
  );
  return focusedRuleset(family, { piece: connectionPiece(family), place: 'FORWARD' }, rules).map((random) => {
    const all = [...random.rules, ...edges];
    return {
      ...random,
      rules: all,
      text: textOf(
        'FORWARD',
        all.map(({ text }) => text),
      ),
      stateful: true,
    };
  });
}

const SIDES = ['ctorigsrc', 'ctorigdst', 'ctreplsrc', 'ctrepldst'] as const;

/** Just this port, all above it, all below it. */
function portEdges(talks: readonly Shape[]): string[] {
  const ports = talks.flatMap(({ transport }) => (transport.kind === 'tcp' ? [transport.sourcePort] : []));
  return [...new Set(ports)]
    .slice(0, 2)
    .flatMap((port) =>
      SIDES.flatMap((side) => [
        `--${side}port ${port}`,
        `--${side}port ${port + 1}:65535`,
        `--${side}port 0:${port - 1}`,
      ]),
    );
}

/** Just this address, and its neighbours in the lowest and the highest bit. */
function addressEdges(talks: readonly Shape[]): string[] {
  const addresses = new Map(talks.map(({ source }) => [formatAddressBytes(source), source]));
  return [...addresses.values()].flatMap((address) => {
    const low = address.map((byte, index) => (index === address.length - 1 ? byte ^ 1 : byte));
    const high = address.map((byte, index) => (index === 0 ? byte ^ 0x80 : byte));
    return [address, low, high].flatMap((own) =>
      SIDES.map((side) => `--${side} ${formatAddressBytes(own)}/${address.length * 8}`),
    );
  });
}

/** Rules that act: what a target does shows in the counters of the rules and chains after it. */
export function targetRuleset(family: Family): GeneratedRuleset {
  const reject = family === 'ipv4' ? 'icmp-admin-prohibited' : 'icmp6-adm-prohibited';
  const lines = [
    '-A FORWARD -p udp -j LOG --log-prefix "udp: " --log-level 5',
    '-A FORWARD -p udp',
    `-A FORWARD -p tcp -j REJECT --reject-with ${reject}`,
    '-A FORWARD -p tcp',
    '-A FORWARD',
  ];
  const mangle = ['*mangle', ':PREROUTING ACCEPT [0:0]', ...MANGLE, 'COMMIT', ''].join('\n');
  return { family, text: mangle + textOf('FORWARD', lines), rules: [], stateful: false };
}
