/**
 * REJECT where a program answers by itself (xdp, tcx ingress): the packet is made into the answer and sent back by the device
 * that it came in at. What nf_reject_ipv4.c and nf_reject_ipv6.c do not answer is not answered here: later
 * fragments, groups and broadcasts (by link layer, address and the generation's table of address types), packets for others
 * where nothing is forwarded, senders that are none, resets, ICMP errors. Unlike there, the received checksum is not looked at (a device may have yet to
 * fill it in), IP options are not echoed, and there is no rate limit. Not answered means dropped.
 */
import { type Label, R1, R2, R10, type Register } from '../../../isa/index.ts';
import type { Family } from '../../../net/index.ts';
import type { Emission, ReplyPlace } from '../../emit/emission.ts';
import { closeFacts, type Fact, factWords } from '../../emit/fact.ts';
import { ANSWER_IP, type Answering } from '../../hooks/answer.ts';
import { PARAMS_SIZE, ROUTE, Route } from '../../hooks/route.ts';
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

const SCRATCH_BYTES = 40;
const RTN_LOCAL = 2;
const RTN_BROADCAST = 3;
const RTN_ANYCAST = 4;
const RTN_MULTICAST = 5;
/** Link header, IP header, the larger transport header. */
const blockSize = (family: Family): number => ANSWER_IP + HEADER_SIZE[family] + 20;

/**
 * Before anything else has a place in the frame: gives one to what answers need of it, so that they can use the rest anew.
 * The size of the frame then, for {@link emitReplies}.
 */
export function reserveForReplies({
  facts,
  family,
  frame,
}: Pick<Emission, 'facts' | 'family' | 'frame'>): number {
  for (const fact of closeFacts(REPLY_NEEDS, family)) {
    for (let word = 0; word < factWords(fact, family); word++) facts.offset(fact, word);
  }
  frame.word('replyKind');
  frame.word(ROUTE);
  frame.block('scratch', SCRATCH_BYTES);
  frame.block('fib', PARAMS_SIZE);
  return frame.size;
}

/** At the rule: `kind` is the kernel's enum, or a register that has it. */
export function emitReply(emission: Emission, reply: Label, kind: number | Register): void {
  emission.asm.store('u32', R10, emission.frame.word('replyKind'), kind).goto(reply);
}

/** Behind the rules, once a section: answers packets that come to the label. Uses r0..r5. */
export function emitReplies(
  emission: Emission,
  { label, frameSize }: ReplyPlace,
  answering: Answering,
): void {
  const { asm, facts, family, frame, labels } = emission;
  const no = labels.drop;
  frame.release(frameSize);
  const kind = frame.word('replyKind');
  const block = frame.block('answer', blockSize(family));
  asm.place(label);
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
  const { asm, facts, family, frame } = emission;
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
  // Without forwarding what is for others counts as local (../../hooks/route.ts): the kernel drops it, and nobody answers. The
  // address of an IPv6 network is its routers': no host takes it.
  const ours = asm.label('answers');
  asm.jump('==', R1, RTN_LOCAL, ours);
  asm
    .load('u32', R2, R10, frame.word(ROUTE))
    .jump('==', R2, Route.forward, ours)
    .jump('==', R2, Route.untold, no);
  asm.jump('!=', R1, RTN_ANYCAST, no);
  asm.place(ours);
}
