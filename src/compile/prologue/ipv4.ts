/**
 * Facts of an IPv4 packet (RFC 791), checked as ip_rcv checks it: what netfilter never gets to see is dropped here too.
 */
import { R1, R2, R10 } from '../../isa/index.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import { emitTransportFacts } from './transport.ts';

const HEADER = 20;
const FRAGMENT_OFFSET = 0x1fff;
const FRAGMENT_BITS = 0x3fff;

/** Uses r0..r5 and the frame's scratch block. */
export function emitIpv4Facts(emission: Emission): void {
  const { asm, facts, frame, hook, labels } = emission;
  const netfilter = hook.point.flavour === 'netfilter';
  asm.note('IPv4 header');
  const header = frame.block('scratch', 40);
  emitCopy(emission, header, { constant: 0 }, HEADER, labels.malformed);

  // Version 4 and at least five words of header.
  asm.load('u8', R1, R10, header).mov(R2, R1).rsh(R2, 4).jump('!=', R2, 4, labels.malformed);
  asm.and(R1, 0xf).lsh(R1, 2).jump('<', R1, HEADER, labels.malformed);
  if (facts.has('transportOffset')) asm.store('u32', R10, facts.offset('transportOffset'), R1);
  if (!netfilter || facts.has('ipLength')) {
    asm.load('u16', R2, R10, header + 2).toBe(R2, 16);
    if (!netfilter) {
      // Padding behind the packet is not part of it, so skb->len will not do. A packet that says more than there is
      // is caught by the copies of what a rule needs, and dropped by ip_rcv in any case.
      asm.jump('<', R2, R1, labels.malformed);
      asm.store('u32', R10, facts.offset('length'), R2);
    }
    if (facts.has('ipLength')) asm.store('u32', R10, facts.offset('ipLength'), R2);
  }
  const bits = { isFragment: FRAGMENT_BITS, fragmentOffset: FRAGMENT_OFFSET } as const;
  const asked = (['isFragment', 'fragmentOffset'] as const).filter((fact) => facts.has(fact));
  if (asked.length > 0) asm.load('u16', R1, R10, header + 6).toBe(R1, 16);
  // Of the wider bits first: what the narrower ones leave is part of them.
  for (const fact of asked) asm.and(R1, bits[fact]).store('u32', R10, facts.offset(fact), R1);
  const byte = { tos: 1, ttl: 8, protocol: 9 } as const;
  for (const fact of ['tos', 'ttl', 'protocol'] as const) {
    if (!facts.has(fact)) continue;
    asm.load('u8', R1, R10, header + byte[fact]).store('u32', R10, facts.offset(fact), R1);
  }
  const word = { source: 12, destination: 16 } as const;
  for (const fact of ['source', 'destination'] as const) {
    if (!facts.has(fact)) continue;
    asm.load('u32', R1, R10, header + word[fact]).store('u32', R10, facts.offset(fact), R1);
  }
  emitTransportFacts(emission);
}
