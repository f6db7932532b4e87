/**
 * Conntrack facts from skb->_nfct, where conntrack has run before: a pointer to struct nf_conn whose low three bits are
 * enum ip_conntrack_info (include/linux/netfilter/nf_conntrack_common.h). The state bits are those of xt_conntrack.c.
 */

import { CtStateBit } from '../../ir/index.ts';
import { type Assembler, type Label, R0, R1, R2, R3, R10, type Register } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { RuleTag } from '../program.ts';

const CTINFO_MASK = 7;
const IP_CT_IS_REPLY = 3;
const IP_CT_UNTRACKED = 7;
const IPS_SRC_NAT = 0x10;
const IPS_DST_NAT = 0x20;

/** r0 = the connection of the sk_buff in `skb`; goes to `none` when it has none. Uses r1..r5. */
export function emitConnection(asm: Assembler<RuleTag>, skb: Register, none: Label): void {
  asm.loadField('u64', R1, skb, 'sk_buff', '_nfct').and(R1, ~CTINFO_MASK).jump('==', R1, 0, none);
  asm.movTypeId(R2, 'nf_conn').callKfunc('bpf_rdonly_cast');
}

/** Stores the conntrack facts that are wanted; `skb` is the sk_buff, for `none` see below. Uses r0..r5.
 *
 * Without `none`, a packet without a connection is INVALID, as xt_conntrack has it; else control goes there.
 */
export function emitConntrackFacts(emission: Emission, skb: Register, none?: Label): void {
  const { asm, facts, frame } = emission;
  const done = asm.label('ct_done');
  const untracked = asm.label('ct_untracked');
  const stateAt = facts.offset('ctState');
  for (const fact of ['ctStatus', 'ctDirection', 'ctMark'] as const) {
    if (facts.has(fact)) asm.store('u32', R10, facts.offset(fact), 0);
  }
  asm.store('u32', R10, stateAt, CtStateBit.INVALID);
  asm.loadField('u64', R1, skb, 'sk_buff', '_nfct');
  if (none !== undefined) asm.jump('==', R1, 0, none);
  asm.mov(R2, R1).and(R2, CTINFO_MASK);
  const info = frame.word('ctInfo');
  asm.store('u32', R10, info, R2);
  asm.jump('==', R2, IP_CT_UNTRACKED, untracked);
  asm.and(R1, ~CTINFO_MASK).jump('==', R1, 0, done);
  asm.movTypeId(R2, 'nf_conn').callKfunc('bpf_rdonly_cast');

  // 1 << (ctinfo mod 3 + 1)
  asm.load('u32', R2, R10, info).mov(R3, 0);
  const original = asm.label('ct_original');
  asm.jump('<', R2, IP_CT_IS_REPLY, original);
  asm.sub(R2, IP_CT_IS_REPLY).mov(R3, 1);
  asm.place(original);
  if (facts.has('ctDirection')) asm.store('u32', R10, facts.offset('ctDirection'), R3);
  asm.mov(R1, 2).and(R2, 3).lsh(R1, R2);
  asm.loadField('u64', R2, R0, 'nf_conn', 'status');
  if (facts.has('ctStatus')) asm.store('u32', R10, facts.offset('ctStatus'), R2);
  // IPS_SRC_NAT and IPS_DST_NAT, shifted, are XT_CONNTRACK_STATE_SNAT and _DNAT.
  asm
    .and(R2, IPS_SRC_NAT | IPS_DST_NAT)
    .lsh(R2, 2)
    .or(R1, R2);
  asm.store('u32', R10, stateAt, R1);
  if (facts.has('ctMark')) {
    asm.loadField('u32', R1, R0, 'nf_conn', 'mark').store('u32', R10, facts.offset('ctMark'), R1);
  }
  asm.goto(done);
  asm.place(untracked).store('u32', R10, stateAt, CtStateBit.UNTRACKED);
  asm.place(done);
}
