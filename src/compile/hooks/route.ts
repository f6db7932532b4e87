/**
 * xdp and tcx ingress run before routing: bpf_fib_lookup tells whether a packet is for this host (INPUT) or on its way
 * through (FORWARD), and then the device it will leave by. struct bpf_fib_lookup: include/uapi/linux/bpf.h.
 */
import { type Label, R0, R1, R2, R3, R4, R6, R7, R10 } from '../../isa/index.ts';
import { DEVICE_NAME_SIZE, Generation, Surroundings } from '../arena/layout.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

export const ROUTE_NEEDS: readonly Fact[] = ['source', 'destination', 'inIfindex', 'tos'];

const Params = { family: 0, ifindex: 8, tos: 12, source: 16, destination: 32 } as const;
export const PARAMS_SIZE = 64;
const AF_INET = 2;
const AF_INET6 = 10;
const BPF_FIB_LOOKUP_SKIP_NEIGH = 4;
const BPF_FIB_LOOKUP_SRC = 16;
const BPF_FIB_LKUP_RET_NOT_FWDED = 4;
const BPF_FIB_LKUP_RET_FWD_DISABLED = 5;

/** Word of the frame, where answers ask for it: what the routing decision says of the packet, one of {@link Route}. */
export const ROUTE = 'route';
export const Route = {
  /** Nothing: without forwarding the kernel does not look. */
  untold: 0,
  /** To this host, or to nobody. */
  local: 1,
  forward: 2,
} as const;

/**
 * Falls through for packets to this host, goes to `forward` with the output device for the others. Without forwarding the
 * kernel does not say which it is, and delivers or drops the packet itself: INPUT. Routes that refuse (blackhole,
 * unreachable, prohibit) count as FORWARD; the kernel refuses the packet after us. The frame's word at `told`, where there is
 * one, becomes one of {@link Route}. Uses r0..r5.
 */
export function emitRoute(emission: Emission, forward: Label, told: number | undefined): void {
  const { asm, facts, frame, family, labels } = emission;
  const params = frame.block('fib', PARAMS_SIZE);
  const local = asm.label('local');
  asm.note('to this host, or on its way through');
  for (let at = 0; at < PARAMS_SIZE; at += 8) asm.store('u64', R10, params + at, 0);
  asm.store('u8', R10, params + Params.family, family === 'ipv4' ? AF_INET : AF_INET6);
  asm.load('u32', R1, R10, facts.offset('inIfindex')).store('u32', R10, params + Params.ifindex, R1);
  if (family === 'ipv4') {
    asm.load('u32', R1, R10, facts.offset('tos')).store('u8', R10, params + Params.tos, R1);
  }
  for (const [fact, at] of [
    ['source', Params.source],
    ['destination', Params.destination],
  ] as const) {
    for (let word = 0; word < (family === 'ipv4' ? 1 : 4); word++) {
      asm.load('u32', R1, R10, facts.offset(fact, word)).store('u32', R10, params + at + word * 4, R1);
    }
  }
  asm.mov(R1, R6).mov(R2, R10).add(R2, params).mov(R3, PARAMS_SIZE).mov(R4, BPF_FIB_LOOKUP_SKIP_NEIGH);
  asm.call('bpf_fib_lookup');
  if (told !== undefined) asm.store('u32', R10, told, Route.untold);
  asm.jump('s<', R0, 0, local).jump('==', R0, BPF_FIB_LKUP_RET_FWD_DISABLED, local);
  if (told !== undefined) asm.store('u32', R10, told, Route.local);
  asm.jump('==', R0, BPF_FIB_LKUP_RET_NOT_FWDED, local);
  if (told !== undefined) asm.store('u32', R10, told, Route.forward);
  if (facts.has('outIfindex') || facts.has('outDevice')) asm.load('u32', R1, R10, params + Params.ifindex);
  if (facts.has('outIfindex')) asm.store('u32', R10, facts.offset('outIfindex'), R1);
  if (facts.has('outDevice')) {
    // The surroundings' names by number; a device that came later has none, and no rule can be asked about it.
    asm.load('u32', R3, R7, Generation.surroundings).castToKernel(R3, R3);
    asm.load('u32', R2, R3, Surroundings.devicesCount).jump('>=', R1, R2, labels.malformed);
    asm.lsh(R1, Math.log2(DEVICE_NAME_SIZE)).load('u32', R2, R3, Surroundings.devices).add(R2, R1);
    asm.castToKernel(R2, R2).load('u32', R1, R2, 0).jump('==', R1, 0, labels.malformed);
    for (let word = 0; word < 4; word++) {
      asm.load('u32', R1, R2, word * 4).store('u32', R10, facts.offset('outDevice', word), R1);
    }
  }
  asm.goto(forward);
  asm.place(local);
}

/**
 * Stores at `to` the address that this host sends answers to the packet's source from, as the routing tables have it; goes
 * to `no` when there is no way there. For packets on their way through. Uses r0..r5.
 */
export function emitAnswerSource(emission: Emission, to: number, no: Label): void {
  const { asm, facts, frame, family } = emission;
  const params = frame.block('fib', PARAMS_SIZE);
  const words = family === 'ipv4' ? 1 : 4;
  for (let at = 0; at < PARAMS_SIZE; at += 8) asm.store('u64', R10, params + at, 0);
  asm.store('u8', R10, params + Params.family, family === 'ipv4' ? AF_INET : AF_INET6);
  asm.load('u32', R1, R10, facts.offset('inIfindex')).store('u32', R10, params + Params.ifindex, R1);
  for (let word = 0; word < words; word++) {
    asm.load('u32', R1, R10, facts.offset('source', word));
    asm.store('u32', R10, params + Params.destination + word * 4, R1);
  }
  asm.mov(R1, R6).mov(R2, R10).add(R2, params).mov(R3, PARAMS_SIZE);
  asm.mov(R4, BPF_FIB_LOOKUP_SKIP_NEIGH | BPF_FIB_LOOKUP_SRC);
  asm.call('bpf_fib_lookup').jump('!=', R0, 0, no);
  for (let word = 0; word < words; word++) {
    asm.load('u32', R1, R10, params + Params.source + word * 4).store('u32', R10, to + word * 4, R1);
  }
}
