/**
 * REJECT where a program answers by itself (xdp, tcx ingress): the packet is made into the answer and sent back by the device
 * that it came in at. What nf_reject_ipv4.c and nf_reject_ipv6.c do not answer is not answered here: later
 * fragments, groups and broadcasts (by link layer, address and the generation's table of address types), senders that
 * are none, resets, ICMP errors. Unlike there, the received checksum is not looked at (a device may have yet to
 * fill it in), IP options are not echoed, and there is no rate limit. Not answered means dropped.
 */
import { type Label, R1, R10, type Register } from '../../../isa/index.ts';
import type { Family } from '../../../net/index.ts';
import type { Emission } from '../../emit/emission.ts';
import type { Fact } from '../../emit/fact.ts';
import { ANSWER_IP, type Answering } from '../../hooks/answer.ts';
import { emitTypeWalk } from '../../predicates/addresstype.ts';
import { HEADER_SIZE } from './header.ts';
import { TCP_RESET } from './refusals.ts';
import { emitReset } from './reset.ts';
import { emitUnreachable } from './unreachable.ts';

export const REPLY_NEEDS: readonly Fact[] = [
  'source',
  'destination',
  'protocol',
  'tos',
  'fragmentOffset',
  'transportOffset',
  'transportLength',
  'icmpType',
  'inIfindex',
];

const RTN_BROADCAST = 3;
const RTN_MULTICAST = 5;
/** Link header, IP header, the larger transport header. */
const blockSize = (family: Family): number => ANSWER_IP + HEADER_SIZE[family] + 20;

/** At the rule: `kind` is the kernel's enum, or a register that has it. */
export function emitReply(emission: Emission, reply: Label, kind: number | Register): void {
  emission.asm.store('u32', R10, emission.frame.word('replyKind'), kind).goto(reply);
}

/** Behind the rules, once a section: answers packets that come to `reply`. Uses r0..r5. */
export function emitReplies(emission: Emission, reply: Label, answering: Answering): void {
  const { asm, facts, family, frame, labels } = emission;
  const no = labels.drop;
  const kind = frame.word('replyKind');
  const block = frame.block('answer', blockSize(family));
  asm.place(reply);
  if (family === 'ipv6') {
    asm.load('u32', R1, R10, facts.offset('protocolMissing')).jump('!=', R1, 0, no);
  }
  asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('!=', R1, 0, no);
  emitOneToOne(emission, no);
  answering.begin(emission, block, no);
  const unreachable = asm.label('unreachable');
  asm.load('u32', R1, R10, kind).jump('!=', R1, TCP_RESET[family], unreachable);
  emitReset(emission, answering, block, no);
  asm.place(unreachable);
  emitUnreachable(emission, answering, block, kind, no);
}

/** From a host, to a host. Uses r1..r5. */
function emitOneToOne(emission: Emission, no: Label): void {
  const { asm, facts, family } = emission;
  for (const fact of ['source', 'destination'] as const) {
    asm.load('u32', R1, R10, facts.offset(fact)).and(R1, 0xff);
    if (family === 'ipv4') asm.jump('>=', R1, 224, no).jump('==', R1, 0, no).jump('==', R1, 127, no);
    else asm.jump('==', R1, 0xff, no);
  }
  if (family === 'ipv6') {
    const some = asm.label('source_given');
    for (let word = 0; word < 4; word++) {
      asm.load('u32', R1, R10, facts.offset('source', word)).jump('!=', R1, 0, some);
    }
    asm.goto(no).place(some);
  }
  emitTypeWalk(emission, { field: 'ip.destination', limitTo: 'none' });
  asm.jump('==', R1, RTN_BROADCAST, no).jump('==', R1, RTN_MULTICAST, no);
}
