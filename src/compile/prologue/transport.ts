/** Facts of the transport header: read once, only from a first fragment or whole packet, only what is there. */
import { R1, R2, R10 } from '../../isa/index.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitSetPorts } from './setport.ts';

type Field = readonly [fact: Fact, offset: number];
/** Where they lie in the transport header. */
const PORT_FACTS: readonly Field[] = [
  ['sourcePort', 0],
  ['destinationPort', 2],
];
const ICMP_FACTS: readonly Field[] = [
  ['icmpType', 0],
  ['icmpCode', 1],
];
const HEADER_FACTS: readonly Fact[] = [...PORT_FACTS, ...ICMP_FACTS].map(([fact]) => fact).concat('tcpFlags');
const PORTS = 4;
const TCP_FLAGS = 13;

/** After `transportOffset`, `length` and `fragmentOffset` are stored. Uses r0..r5 and the frame's scratch block. */
export function emitTransportFacts(emission: Emission): void {
  const { asm, facts, frame } = emission;
  if (facts.has('transportLength')) {
    const positive = asm.label('transport_length');
    asm.load('u32', R1, R10, facts.offset('length')).load('u32', R2, R10, facts.offset('transportOffset'));
    asm.sub(R1, R2).jump('s>=', R1, 0, positive).mov(R1, 0);
    asm.place(positive).store('u32', R10, facts.offset('transportLength'), R1);
  }
  const wanted = HEADER_FACTS.filter((fact) => facts.has(fact));
  if (wanted.length === 0) return;
  asm.note('transport header, of whole packets and first fragments');
  for (const fact of wanted) asm.store('u32', R10, facts.offset(fact), 0);
  const done = asm.label('transport_done');
  const buffer = frame.block('scratch', 40);
  const word = facts.offset('transportOffset');
  asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('!=', R1, 0, done);
  if (wanted.some((fact) => fact !== 'tcpFlags')) {
    emitCopy(emission, buffer, { constant: 0, word }, PORTS, done);
    for (const [fact, offset] of PORT_FACTS) {
      if (!facts.has(fact)) continue;
      asm
        .load('u16', R1, R10, buffer + offset)
        .toBe(R1, 16)
        .store('u32', R10, facts.offset(fact), R1);
    }
    for (const [fact, offset] of ICMP_FACTS) {
      if (!facts.has(fact)) continue;
      asm.load('u8', R1, R10, buffer + offset).store('u32', R10, facts.offset(fact), R1);
    }
  }
  if (facts.has('tcpFlags')) {
    emitCopy(emission, buffer, { constant: TCP_FLAGS, word }, 1, done);
    asm.load('u8', R1, R10, buffer).store('u32', R10, facts.offset('tcpFlags'), R1);
  }
  asm.place(done);
  emitSetPorts(emission);
}
