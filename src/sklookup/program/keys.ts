/** From the program's context to the keys of the packet. Context: struct bpf_sk_lookup, include/uapi/linux/bpf.h. */
import { type Assembler, type Label, R1, R2, R6, R10, type Register } from '../../isa/index.ts';
import type { KeyName } from '../layout.ts';
import { Frame, keySlot } from './stack.ts';

/** Offsets in struct bpf_sk_lookup. */
export const SkLookup = {
  family: 8,
  protocol: 12,
  remoteIp4: 16,
  remoteIp6: 20,
  remotePort: 36,
  localIp4: 40,
  localIp6: 44,
  localPort: 60,
  ingressIfindex: 64,
} as const;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;

/**
 * Stores the keys in the frame and the table's number ({@link rootIndex}) in `table`; the local port goes to `port`.
 * Other protocols and families go to `other`. With `ifindex` the device is that one, whatever the context says.
 * Uses r1, r2; the context is in r6.
 */
export function emitKeys(
  asm: Assembler,
  table: Register,
  port: Register,
  other: Label,
  ifindex?: number,
): void {
  const udp = asm.label('udp');
  const known = asm.label('protocol_known');
  const ipv4 = asm.label('ipv4');
  const stored = asm.label('addresses_stored');
  asm.load('u32', R1, R6, SkLookup.protocol).mov(table, 0).jump('==', R1, IPPROTO_TCP, known);
  asm.jump('==', R1, IPPROTO_UDP, udp).goto(other);
  asm.place(udp).mov(table, 1);
  asm.place(known).load('u32', R1, R6, SkLookup.family).jump('==', R1, AF_INET, ipv4);
  asm.jump('!=', R1, AF_INET6, other).add(table, 2);
  emitHalf(asm, SkLookup.localIp6, 'localHigh');
  emitHalf(asm, SkLookup.localIp6 + 8, 'localLow');
  emitHalf(asm, SkLookup.remoteIp6, 'remoteHigh');
  emitHalf(asm, SkLookup.remoteIp6 + 8, 'remoteLow');
  asm.goto(stored);
  asm.place(ipv4).load('u32', R1, R6, SkLookup.localIp4).toBe(R1, 32);
  asm.store('u64', R10, keySlot('localHigh'), R1).store('u64', R10, keySlot('localLow'), 0);
  asm.load('u32', R1, R6, SkLookup.remoteIp4).toBe(R1, 32);
  asm.store('u64', R10, keySlot('remoteHigh'), R1).store('u64', R10, keySlot('remoteLow'), 0);
  asm.place(stored).load('u32', port, R6, SkLookup.localPort).store('u64', R10, keySlot('localPort'), port);
  asm.load('u16', R1, R6, SkLookup.remotePort).toBe(R1, 16).store('u64', R10, keySlot('remotePort'), R1);
  if (ifindex === undefined) asm.load('u32', R1, R6, SkLookup.ingressIfindex);
  else asm.mov(R1, ifindex);
  asm.store('u64', R10, keySlot('ifindex'), R1);
  asm.store('u64', R10, Frame.keys + 56, 0);
}

/** Eight bytes in network order as a number. */
function emitHalf(asm: Assembler, offset: number, key: KeyName): void {
  asm.load('u32', R1, R6, offset).toBe(R1, 32).lsh(R1, 32);
  asm
    .load('u32', R2, R6, offset + 4)
    .toBe(R2, 32)
    .or(R1, R2);
  asm.store('u64', R10, keySlot(key), R1);
}
