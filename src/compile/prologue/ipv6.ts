/**
 * Facts of an IPv6 packet (RFC 8200) and of its extension chain, walked as ipv6_find_hdr does (net/ipv6/exthdrs_core.c).
 *
 * The walk is bounded: a longer chain has no end as far as rules are concerned, and the first rule that asks for the
 * protocol drops the packet, as iptables does with a chain that it cannot read.
 */
import { R1, R2, R3, R10 } from '../../isa/index.ts';
import { emitCopy, emitCopyInLoop } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import { emitTransportFacts } from './transport.ts';

const HEADER = 40;
/** Extension headers that are followed. */
export const MAX_EXTENSION_HEADERS = 32;
/** Values of the fact `protocolMissing`: the chain ends before its end, or behind a later fragment's header. */
export const CHAIN_CUT_SHORT = 1;
export const CHAIN_HIDDEN = 2;

/** Kinds that the walk passes over; 59, no next header, ends it like a protocol. */
const EXTENSION_HEADERS: readonly number[] = [0, 43, 44, 51, 60];
const NEXTHDR_ROUTING = 43;
const NEXTHDR_FRAGMENT = 44;
const NEXTHDR_AUTH = 51;
const FRAGMENT_HEADER = 8;

/** Uses r0..r5 and the frame's scratch block. */
export function emitIpv6Facts(emission: Emission): void {
  const { asm, facts, frame, hook, labels } = emission;
  const header = frame.block('scratch', HEADER);
  const netfilter = hook.point.flavour === 'netfilter';
  asm.note('IPv6 header');
  emitCopy(emission, header, { constant: 0 }, HEADER, labels.malformed);
  asm.load('u8', R1, R10, header).rsh(R1, 4).jump('!=', R1, 6, labels.malformed);
  if (!netfilter || facts.has('ipLength')) {
    asm
      .load('u16', R1, R10, header + 4)
      .toBe(R1, 16)
      .add(R1, HEADER);
    if (!netfilter) asm.store('u32', R10, facts.offset('length'), R1);
    if (facts.has('ipLength')) asm.store('u32', R10, facts.offset('ipLength'), R1);
  }
  if (facts.has('tos')) {
    asm.load('u16', R1, R10, header).toBe(R1, 16).rsh(R1, 4).and(R1, 0xff);
    asm.store('u32', R10, facts.offset('tos'), R1);
  }
  if (facts.has('ttl')) asm.load('u8', R1, R10, header + 7).store('u32', R10, facts.offset('ttl'), R1);
  const start = { source: 8, destination: 24 } as const;
  for (const fact of ['source', 'destination'] as const) {
    if (!facts.has(fact)) continue;
    for (let word = 0; word < 4; word++) {
      asm
        .load('u32', R1, R10, header + start[fact] + word * 4)
        .store('u32', R10, facts.offset(fact, word), R1);
    }
  }
  if (facts.has('protocol')) {
    asm.load('u8', R1, R10, header + 6).store('u32', R10, facts.offset('protocol'), R1);
    emitExtensionWalk(emission, header);
  }
  emitTransportFacts(emission);
}

/** `protocol`, at first what follows the fixed header, `transportOffset`, `fragmentOffset` and the extension headers met. */
function emitExtensionWalk(emission: Emission, header: number): void {
  const { asm, facts, frame } = emission;
  const protocol = facts.offset('protocol');
  const offset = facts.offset('transportOffset');
  const fragment = facts.offset('fragmentOffset');
  const missing = facts.offset('protocolMissing');
  const rounds = frame.word('extensionRounds');
  const walk = asm.label('extension_walk');
  const isExtension = asm.label('extension');
  const found = asm.label('protocol_found');
  const lost = asm.label('protocol_lost');
  const hidden = asm.label('protocol_hidden');
  const done = asm.label('extension_done');
  const advance = asm.label('extension_next');

  asm.note('extension headers');
  asm.store('u32', R10, offset, HEADER).store('u32', R10, fragment, 0);
  for (const fact of ['isFragment', 'fragmentHeader', 'authHeader'] as const) {
    if (facts.has(fact)) asm.store('u32', R10, facts.offset(fact), 0);
  }
  asm.store('u32', R10, rounds, 0);

  // Counted in a word behind may_goto, so that the verifier goes around until nothing is new, not once for each header.
  asm.place(walk).mayGoto(lost);
  asm.load('u32', R2, R10, rounds).add(R2, 1).store('u32', R10, rounds, R2);
  asm.load('u32', R1, R10, protocol);
  for (const kind of EXTENSION_HEADERS) asm.jump('==', R1, kind, isExtension);
  asm.goto(found);

  asm.place(isExtension);
  asm.jump('>', R2, MAX_EXTENSION_HEADERS, lost);
  // The first two bytes of every extension header: next header and length.
  emitCopyInLoop(emission, header, { constant: 0, word: offset }, 2, lost);
  // Of a routing header ipv6_find_hdr wants four.
  const notRouting = asm.label('not_routing');
  asm.load('u32', R1, R10, protocol).jump('!=', R1, NEXTHDR_ROUTING, notRouting);
  emitCopyInLoop(emission, header + 2, { constant: 2, word: offset }, 2, lost);
  asm.place(notRouting);
  asm.load('u32', R1, R10, protocol).load('u8', R3, R10, header + 1);
  const notFragment = asm.label('not_fragment');
  asm.jump('!=', R1, NEXTHDR_FRAGMENT, notFragment);
  emitCopyInLoop(emission, header + 2, { constant: 2, word: offset }, 2, lost);
  noteHeader(emission, 'fragmentHeader');
  asm.load('u16', R1, R10, header + 2).toBe(R1, 16);
  if (facts.has('isFragment'))
    asm.mov(R2, R1).and(R2, 0xfff9).store('u32', R10, facts.offset('isFragment'), R2);
  const first = asm.label('first_fragment');
  asm.mov(R3, FRAGMENT_HEADER).rsh(R1, 3).jump('==', R1, 0, first);
  // A later fragment: its next header is the protocol, unless it is another extension header, which is not there.
  asm.load('u8', R2, R10, header);
  for (const kind of EXTENSION_HEADERS) asm.jump('==', R2, kind, hidden);
  asm.store('u32', R10, fragment, R1).store('u32', R10, protocol, R2).goto(found);
  asm.place(first).goto(advance);

  asm.place(notFragment);
  const plain = asm.label('plain_extension');
  const measured = asm.label('measured');
  asm.jump('!=', R1, NEXTHDR_AUTH, plain);
  noteHeader(emission, 'authHeader');
  asm.add(R3, 2).lsh(R3, 2).goto(measured);
  asm.place(plain).add(R3, 1).lsh(R3, 3);
  asm.place(measured).place(advance);
  asm.load('u32', R1, R10, offset).add(R1, R3).store('u32', R10, offset, R1);
  asm.load('u8', R1, R10, header).store('u32', R10, protocol, R1);
  asm.goto(walk);

  asm.place(hidden).store('u32', R10, missing, CHAIN_HIDDEN).goto(done);
  asm.place(lost).store('u32', R10, missing, CHAIN_CUT_SHORT).goto(done);
  asm.place(found).store('u32', R10, missing, 0);
  asm.place(done);
}

/** Keeps where the first header of its kind is. Uses r2. */
function noteHeader(emission: Emission, fact: 'fragmentHeader' | 'authHeader'): void {
  const { asm, facts } = emission;
  if (!facts.has(fact)) return;
  const noted = asm.label('header_noted');
  asm.load('u32', R2, R10, facts.offset(fact)).jump('!=', R2, 0, noted);
  asm.load('u32', R2, R10, facts.offset('transportOffset')).store('u32', R10, facts.offset(fact), R2);
  asm.place(noted);
}
