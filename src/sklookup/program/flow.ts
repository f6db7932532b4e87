/** Kept UDP flows: a datagram goes where the first of its flow went, as long as that socket lives. */
import { type Assembler, type Label, R0, R1, R2, R3, R4, R9, R10 } from '../../isa/index.ts';
import {
  FLOW_IDLE_NS,
  FLOWS_MAP,
  FlowKey,
  FlowValue,
  MAX_SLOTS,
  SLOT_SIZE,
  SLOTS_OFFSET,
  SOCKET_ARENA,
} from '../layout.ts';
import { Frame, keySlot } from './stack.ts';

/** r2 = pointer to the slot's record, from the slot's number in r1. */
function emitSlotRecord(asm: Assembler): void {
  asm.mul(R1, SLOT_SIZE).loadArena(R2, SOCKET_ARENA, SLOTS_OFFSET).add(R2, R1).castToKernel(R2, R2);
}

/**
 * Stores the flow's key and, if the flow is known, its slot in the frame; else goes to `unknown`.
 * With `touch` the flow's time moves on. Uses r0..r5 and r9.
 */
export function emitFindFlow(asm: Assembler, unknown: Label, touch: boolean): void {
  const key = Frame.flowKey;
  const words = [
    ['remoteHigh', FlowKey.remote],
    ['remoteLow', FlowKey.remote + 8],
    ['localHigh', FlowKey.local],
    ['localLow', FlowKey.local + 8],
  ] as const;
  for (const [name, offset] of words)
    asm.load('u64', R1, R10, keySlot(name)).store('u64', R10, key + offset, R1);
  asm.load('u64', R1, R10, keySlot('remotePort')).store('u16', R10, key + FlowKey.remotePort, R1);
  asm.load('u64', R1, R10, keySlot('localPort')).store('u16', R10, key + FlowKey.localPort, R1);
  asm.load('u32', R1, R10, Frame.destination).store('u32', R10, key + FlowKey.destination, R1);
  asm.loadMap(R1, FLOWS_MAP).mov(R2, R10).add(R2, key).call('bpf_map_lookup_elem').jump('==', R0, 0, unknown);
  asm.mov(R9, R0).call('bpf_ktime_get_ns').load('u64', R1, R9, FlowValue.seenNs);
  if (touch) asm.store('u64', R9, FlowValue.seenNs, R0);
  // Signed: another CPU may have stored a later time than ours.
  asm.sub(R0, R1).loadConstant(R1, FLOW_IDLE_NS).jump('s>', R0, R1, unknown);
  asm
    .load('u32', R1, R9, FlowValue.slot)
    .jump('>=', R1, MAX_SLOTS, unknown)
    .store('u32', R10, Frame.slot, R1);
  emitSlotRecord(asm);
  asm.load('u32', R2, R2, 0).load('u32', R3, R9, FlowValue.epoch).jump('!=', R2, R3, unknown);
}

/** Remembers the slot in the frame for the flow whose key is there. Uses r0..r5. */
export function emitKeepFlow(asm: Assembler): void {
  const value = Frame.flowValue;
  asm.call('bpf_ktime_get_ns').store('u64', R10, value + FlowValue.seenNs, R0);
  asm.load('u32', R1, R10, Frame.slot).store('u32', R10, value + FlowValue.slot, R1);
  emitSlotRecord(asm);
  asm.load('u32', R2, R2, 0).store('u32', R10, value + FlowValue.epoch, R2);
  asm.loadMap(R1, FLOWS_MAP).mov(R2, R10).add(R2, Frame.flowKey).mov(R3, R10).add(R3, value).mov(R4, 0);
  asm.call('bpf_map_update_elem');
}
