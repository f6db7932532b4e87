/** `--tcp-option N`: a walk over the options of the TCP header (xt_tcpudp.c tcp_find_option). */

import type { TcpOptionPredicate } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R4, R10 } from '../../isa/index.ts';
import { emitCopy, emitCopyVariable } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitLoopHead } from '../emit/loop.ts';

export const TCP_OPTION_NEEDS: readonly Fact[] = ['transportOffset', 'fragmentOffset', 'transportLength'];

const TCP_HEADER = 20;
const DATA_OFFSET = 12;
const MAX_OPTIONS = 40;
/** Kinds below this (end, no-operation) are one byte without a length. */
const FIRST_LONG_KIND = 2;

export function emitTcpOption(emission: Emission, predicate: TcpOptionPredicate, fail: Label): void {
  const { asm } = emission;
  const present = asm.label('option_present');
  const absent = asm.label('option_absent');
  emitOptionWalk(emission, predicate.option, present, absent);
  asm.place(present);
  if (predicate.negate) asm.goto(fail).place(absent);
  else {
    const through = asm.label('option_through');
    asm.goto(through).place(absent).goto(fail).place(through);
  }
}

/** `option` is the kind, or the frame offset of a word that has it. Goes to one of the labels. Uses r0..r5. */
export function emitOptionWalk(
  emission: Emission,
  option: number | { readonly word: number },
  present: Label,
  absent: Label,
): void {
  const { asm, facts, frame, labels } = emission;
  const buffer = frame.block('scratch', MAX_OPTIONS);
  const word = facts.offset('transportOffset');
  const length = frame.slot('optionsLength');
  const place = frame.word('optionsPlace');
  const walk = asm.label('option_walk');
  const long = asm.label('option_long');

  emitCopy(emission, buffer, { constant: DATA_OFFSET, word }, 1, labels.hotdrop);
  asm.load('u8', R4, R10, buffer).rsh(R4, 4).lsh(R4, 2).jump('<', R4, TCP_HEADER, labels.hotdrop);
  asm.sub(R4, TCP_HEADER).jump('==', R4, 0, absent).jump('>', R4, MAX_OPTIONS, labels.hotdrop);
  asm.store('u64', R10, length, R4);
  for (let at = 0; at < MAX_OPTIONS; at += 8) asm.store('u64', R10, buffer + at, 0);
  emitCopyVariable(emission, buffer, { constant: TCP_HEADER, word }, labels.hotdrop);

  // The place goes by way of the frame, so that the verifier sees one round, not forty; the budget never ends a walk.
  asm.store('u32', R10, place, 0).load('u64', R4, R10, length);
  emitLoopHead(emission, walk);
  asm.load('u32', R1, R10, place);
  asm.jump('>=', R1, R4, absent).jump('>=', R1, MAX_OPTIONS, absent);
  asm.mov(R2, R10).add(R2, buffer).add(R2, R1).load('u8', R3, R2, 0);
  if (typeof option === 'number') asm.jump('==', R3, option, present);
  else asm.load('u32', R0, R10, option.word).jump('==', R3, R0, present);
  asm.add(R1, 1).store('u32', R10, place, R1).jump('<', R3, FIRST_LONG_KIND, walk);
  // The length counts the kind's byte too; 0 steps by one all the same.
  asm.jump('>=', R1, MAX_OPTIONS, absent);
  asm.mov(R2, R10).add(R2, buffer).add(R2, R1).load('u8', R0, R2, 0).jump('!=', R0, 0, long).goto(walk);
  asm.place(long).sub(R0, 1).add(R1, R0).store('u32', R10, place, R1).goto(walk);
}
