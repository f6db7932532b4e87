/** Packets aimed at a generated ruleset: near its rules' edges, cut short, fragmented, with options and extensions. */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import { type Aim, aimAt } from './aim.ts';
import { address, fragments } from './base-pieces.ts';
import { port, ports, SCTP, TCP } from './protocol-pieces.ts';
import type { GeneratedRuleset } from './rulesets.ts';
import type { Extension, Shape, Transport } from './shape.ts';
import { DEVICES } from './world.ts';

/** The neighbour that all frames come from unless aimed otherwise. */
export const DEFAULT_SOURCE_MAC: Uint8Array = Uint8Array.of(0x02, 0, 0, 0, 0, 0x77);

function transport(family: Family): fc.Arbitrary<Transport> {
  const flags = fc.constantFrom(0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0x3f, 0xff);
  const options = fc.constantFrom(
    new Uint8Array(0),
    Uint8Array.of(2, 4, 5, 180),
    Uint8Array.of(2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7),
  );
  const tcp = fc.tuple(port, port, flags, options, fc.constantFrom(0, 1000, 1001, 0xffffffff)).map(
    ([sourcePort, destinationPort, tcpFlags, tcpOptions, seq]): Transport => ({
      ...TCP,
      kind: 'tcp',
      sourcePort,
      destinationPort,
      flags: tcpFlags,
      options: tcpOptions,
      seq,
      ack: 0,
      window: 64_240,
    }),
  );
  const udp = fc.tuple(fc.constantFrom(17, 17, 17, 136, 33), port, port).map(
    ([protocol, sourcePort, destinationPort]): Transport => ({
      kind: 'ports',
      protocol,
      sourcePort,
      destinationPort,
    }),
  );
  const icmpTypes = family === 'ipv4' ? [0, 3, 8, 8, 11, 13, 30, 255] : [1, 128, 128, 129, 3, 200];
  const icmp = fc
    .tuple(fc.constantFrom(...icmpTypes), fc.constantFrom(0, 1, 3, 255), fc.nat(3))
    .map(([type, code, id]): Transport => ({ kind: 'icmp', type, code, id }));
  return fc.oneof(
    { weight: 4, arbitrary: tcp },
    { weight: 3, arbitrary: udp },
    { weight: 2, arbitrary: icmp },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Transport>(
        SCTP,
        ports(17),
        { kind: 'esp', spi: 7 },
        { kind: 'raw', protocol: 47 },
        { kind: 'raw', protocol: 59 },
      ),
    },
  );
}

const ipOptions = fc.oneof(
  { weight: 8, arbitrary: fc.constant(new Uint8Array(0)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      Uint8Array.of(1, 1, 1, 0),
      Uint8Array.of(148, 4, 0, 0),
      Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0),
      Uint8Array.of(68, 8, 5, 0, 0, 0, 0, 0),
      // Source routes and broken lengths are dropped on the way.
      Uint8Array.of(131, 7, 4, 10, 0, 0, 1, 0),
      Uint8Array.of(7, 1, 0, 0),
    ),
  },
);

const extension: fc.Arbitrary<Extension> = fc.oneof(
  fc.record({ kind: fc.constantFrom('routing', 'destination'), words: fc.nat(2) }),
  fc.record({
    kind: fc.constant('ah' as const),
    spi: fc.nat(9),
    reserved: fc.constantFrom(0, 1),
    words: fc.integer({ min: 1, max: 5 }),
  }),
);

const extensions: fc.Arbitrary<readonly Extension[]> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Extension[]>([]) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.option(fc.nat(2)), fc.array(extension, { maxLength: 3 }))
      .map(([hop, rest]): Extension[] =>
        hop === null ? rest : [{ kind: 'hop-by-hop', words: hop }, ...rest],
      ),
  },
);

/** Any packet, not aimed at anything. */
export function anyShape(family: Family): fc.Arbitrary<Shape> {
  return fc
    .record({
      source: address(family),
      destination: address(family),
      tos: fc.oneof(fc.constant(0), fc.nat(255)),
      ttl: fc.oneof(
        { weight: 5, arbitrary: fc.constantFrom(64, 128, 255) },
        { weight: 1, arbitrary: fc.nat(255) },
      ),
      id: fc.nat(0xffff),
      dontFragment: fc.boolean(),
      ipOptions: family === 'ipv4' ? ipOptions : fc.constant(new Uint8Array(0)),
      extensions: family === 'ipv6' ? extensions : fc.constant<Extension[]>([]),
      transport: transport(family),
      payloadBytes: fc.oneof(fc.constantFrom(0, 8, 64), fc.nat(600)),
      inDevice: fc.constantFrom<string>(...DEVICES),
    })
    .map((fields) => ({ family, sourceMac: DEFAULT_SOURCE_MAC, ...fields }));
}

/** One edge of each condition of a rule: together near it, each perhaps on the wrong side. */
function aims(ruleset: GeneratedRuleset): fc.Arbitrary<readonly Aim[]> {
  const aimable = ruleset.rules.filter((rule) => rule.aims.length > 0);
  if (aimable.length === 0) return fc.constant<Aim[]>([]);
  const one = fc
    .constantFrom(...aimable)
    .chain((rule) => fc.tuple(...rule.aims.map((choices) => fc.constantFrom(...choices))));
  return fc.oneof(
    { weight: 1, arbitrary: fc.constant<Aim[]>([]) },
    { weight: 8, arbitrary: one },
    // Near two rules at once; the second wins where they differ.
    { weight: 3, arbitrary: fc.tuple(one, one).map(([first, second]) => [...first, ...second]) },
  );
}

export interface PacketOptions {
  /** False leaves fragments out, for engines without reassembly. */
  readonly fragments?: boolean;
}

/** Packets for a ruleset. */
export function packetsFor(
  ruleset: GeneratedRuleset,
  { fragments: mayBeCut = true }: PacketOptions = {},
): fc.Arbitrary<Shape> {
  const cut = fc.oneof({ weight: 9, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat(48) });
  const fragmentAim = fc.oneof(
    { weight: 9, arbitrary: fc.constant<Aim>({}) },
    { weight: 1, arbitrary: fc.constantFrom<Aim>(...fragments) },
  );
  return fc
    .tuple(anyShape(ruleset.family), aims(ruleset), fragmentAim, cut)
    .map(([shape, chosen, fragment, cutAt]) => {
      const aimed = [...chosen, fragment].reduce<Shape>(aimAt, shape);
      const { fragment: own, ...whole } = aimed;
      const shaped: Shape = mayBeCut && own !== undefined ? { ...whole, fragment: own } : whole;
      return cutAt === null ? shaped : { ...shaped, cutAt };
    });
}

/** Bytes behind the fixed header up to which a packet is cut: options, extension headers and a transport header lie there. */
const LONGEST_CUT = 64;

/** The packet cut after each byte behind its fixed IP header, and whole. */
export function everyCut(shape: Shape): readonly Shape[] {
  const cuts = Array.from({ length: LONGEST_CUT }, (_, cutAt) => ({ ...shape, cutAt }));
  return [...cuts, shape];
}
