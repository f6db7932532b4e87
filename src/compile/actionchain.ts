/**
 * The programs that carry handed actions on (design decision 13, actions/handed.ts): socket filters for `xt bpf` matches
 * of the action chain at the priority after our link, and the backstop, a netfilter program at the one after that.
 *
 * The chain's rules, in this order: the filter `none` and `accept`, for the many packets that have no word; `reset` and `meta
 * mark set 0`; for each bit of the mark that rules change its filter and `meta mark set`; for each REJECT its filter and
 * `reject`; last the filter `done`, which takes the word away from a packet that goes on. What the backstop still finds was
 * not carried out (the chain is gone, or older than the program): dropped.
 */
import { Assembler, type Label, R0, R1, R2, R3, R6, R9, R10 } from '../isa/index.ts';
import { ACTIONS_MAP, MARK_BITS_SHIFT, MARK_RESET_BIT } from './actions/handed.ts';
import type { AttachPoint } from './attach.ts';
import { hookEmitter } from './hooks/index.ts';
import type { CompiledProgram, RuleTag } from './program.ts';

export type ActionFilter =
  /** Matches packets to be rejected with this enum ipt_reject_with or ip6t_reject_with, and takes the word away. */
  | { readonly kind: 'reject'; readonly with: number }
  /** Matches packets that have no word. */
  | { readonly kind: 'none' }
  /** Matches packets whose mark becomes 0 before its bits are turned. */
  | { readonly kind: 'reset' }
  /** Matches packets of whose mark this bit is turned round. */
  | { readonly kind: 'mark'; readonly bit: number }
  /** Takes the word away; never matches. */
  | { readonly kind: 'done' };

/** Frame slot of the key. */
const KEY = -8;
const REJECT_MASK = 0xff;
const NF_DROP = 0;
const NF_ACCEPT = 1;

/** A socket filter: returns 1 for a packet that it matches. */
export function buildActionFilter(filter: ActionFilter): Omit<CompiledProgram, 'point' | 'attachType'> {
  const asm = new Assembler<RuleTag>();
  const no = asm.label('no_match');
  const missing = filter.kind === 'none' ? asm.label('match') : no;
  asm.mov(R6, R1);
  emitFind(asm, missing);
  switch (filter.kind) {
    case 'none':
      asm.goto(no).place(missing).return(1);
      break;
    case 'reject':
      asm
        .load('u64', R1, R0, 0)
        .and(R1, REJECT_MASK)
        .jump('!=', R1, filter.with + 1, no);
      emitTake(asm);
      asm.return(1);
      break;
    case 'reset':
      emitBit(asm, MARK_RESET_BIT);
      break;
    case 'mark':
      emitBit(asm, MARK_BITS_SHIFT + filter.bit);
      break;
    case 'done':
      emitTake(asm);
      break;
  }
  asm.place(no).return(0);
  const suffix = filter.kind === 'reject' ? filter.with : filter.kind === 'mark' ? filter.bit : '';
  return {
    name: `slc_${filter.kind}${suffix}`,
    type: 'BPF_PROG_TYPE_SOCKET_FILTER',
    code: asm.finish({ prune: true }),
  };
}

/** Drops packets whose action nobody carried out. */
export function buildBackstop(): Omit<CompiledProgram, 'point'> {
  const asm = new Assembler<RuleTag>();
  const pass = asm.label('pass');
  const point: AttachPoint = { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 };
  const hook = hookEmitter(point);
  hook.begin(asm);
  asm.mov(R6, R9);
  emitFind(asm, pass);
  emitTake(asm);
  asm.return(NF_DROP);
  asm.place(pass).return(NF_ACCEPT);
  return {
    name: 'slc_backstop',
    type: hook.type,
    attachType: hook.attachType,
    code: asm.finish({ prune: true }),
  };
}

/** r0 = the packet's word in the map; r6 is the sk_buff. */
function emitFind(asm: Assembler<RuleTag>, missing: Label): void {
  asm.mov(R3, R6).loadMap(R1, ACTIONS_MAP).sub(R3, R1).store('u64', R10, KEY, R3);
  asm.mov(R2, R10).add(R2, KEY).call('bpf_map_lookup_elem').jump('==', R0, 0, missing);
}

/** Returns that bit of the word at r0. */
function emitBit(asm: Assembler<RuleTag>, bit: number): void {
  asm.load('u64', R0, R0, 0).rsh(R0, bit).and(R0, 1).exit();
}

function emitTake(asm: Assembler<RuleTag>): void {
  asm.loadMap(R1, ACTIONS_MAP).mov(R2, R10).add(R2, KEY).call('bpf_map_delete_elem');
}
