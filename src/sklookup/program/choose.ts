/** Choosing one of a destination's sockets for a new flow. */
import { type Assembler, type Label, R0, R1, R2, R9, R10 } from '../../isa/index.ts';
import { type KeyName, MAX_SLOTS, MEMBER_SIZE, Member, Members, SOCKETS_MAP } from '../layout.ts';
import { HASH_FIRST, HASH_SECOND } from '../spread.ts';
import { Frame, keySlot } from './stack.ts';

/** What a flow is known by, in the order in which it is hashed. */
export const FLOW_KEYS: readonly KeyName[] = [
  'localHigh',
  'localLow',
  'remoteHigh',
  'remoteLow',
  'localPort',
  'remotePort',
];

/** r0 = the socket in the frame's slot, referenced; goes to `dead` when there is none. Uses r1..r5. */
export function emitSocketOfSlot(asm: Assembler, dead: Label): void {
  asm.loadMap(R1, SOCKETS_MAP).mov(R2, R10).add(R2, Frame.slot).call('bpf_map_lookup_elem');
  asm.jump('==', R0, 0, dead);
}

/** r0 = the flow's hash, see flowHash. Uses r1, r2. */
function emitFlowHash(asm: Assembler): void {
  asm.mov(R0, 0).loadWide(R1, HASH_FIRST);
  for (const name of FLOW_KEYS) {
    asm.load('u64', R2, R10, keySlot(name)).xor(R0, R2).mul(R0, R1);
    asm.mov(R2, R0).rsh(R2, 32).xor(R0, R2);
  }
  asm.loadWide(R1, HASH_SECOND).mul(R0, R1).rsh(R0, 32);
}

/**
 * r0 = a live socket at `chosen`, its slot in the frame; goes to `miss` when no member lives. Draining members get no
 * new flows. Uses r0..r5 and r9.
 */
export function emitChoose(asm: Assembler, chosen: Label, miss: Label): void {
  const several = asm.label('several');
  const placed = asm.label('placed');
  const walk = asm.label('walk_members');
  const again = asm.label('next_member');
  const inside = asm.label('inside');
  asm.load('u32', R9, R10, Frame.members).jump('==', R9, 0, miss).castToKernel(R9, R9);
  asm.load('u32', R1, R9, Members.places).jump('==', R1, 0, miss).mov(R0, 0).store('u32', R10, Frame.hash, 0);
  asm.jump('!=', R1, 1, several);
  asm.place(placed).mul(R0, 2).mov(R1, R9).add(R1, R0).load('u16', R1, R1, Members.table);
  asm.store('u32', R10, Frame.slot, R1);
  emitSocketOfSlot(asm, walk);
  asm.goto(chosen);

  asm.place(several);
  emitFlowHash(asm);
  asm
    .store('u32', R10, Frame.hash, R0)
    .load('u32', R1, R9, Members.places)
    .mul(R0, R1)
    .rsh(R0, 32)
    .goto(placed);

  // The member's socket has died: the others in their order, beginning at a place of the flow's own.
  asm.place(walk).load('u32', R1, R9, Members.count).jump('==', R1, 0, miss);
  asm.load('u32', R2, R10, Frame.hash).alu('mod', R2, R1).store('u32', R10, Frame.walkIndex, R2);
  asm.store('u32', R10, Frame.walkLeft, R1);
  asm.place(again).mayGoto(miss).load('u32', R1, R10, Frame.walkLeft).jump('==', R1, 0, miss);
  asm.sub(R1, 1).store('u32', R10, Frame.walkLeft, R1);
  asm
    .load('u32', R1, R10, Frame.walkIndex)
    .load('u32', R2, R9, Members.count)
    .jump('<', R1, R2, inside)
    .mov(R1, 0);
  asm.place(inside).mov(R2, R1).add(R2, 1).store('u32', R10, Frame.walkIndex, R2);
  asm
    .mul(R1, MEMBER_SIZE)
    .mov(R2, R9)
    .add(R2, R1)
    .load('u32', R1, R2, Members.list + Member.weight);
  asm
    .jump('==', R1, 0, again)
    .load('u32', R1, R2, Members.list + Member.slot)
    .jump('>=', R1, MAX_SLOTS, again);
  asm.store('u32', R10, Frame.slot, R1);
  emitSocketOfSlot(asm, again);
  asm.goto(chosen);
}
