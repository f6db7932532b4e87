/** IP headers of answers. */
import { R0, R1, R5, R10 } from '../../../isa/index.ts';
import type { Family } from '../../../net/index.ts';
import type { Emission } from '../../emit/emission.ts';
import { emitChecksum, emitFrameSum } from './checksum.ts';

export const HEADER_SIZE: Readonly<Record<Family, number>> = { ipv4: 20, ipv6: 40 };
/** Where the addresses lie: source, then destination, then the transport header. */
export const ADDRESSES: Readonly<Record<Family, number>> = { ipv4: 12, ipv6: 8 };
export const ADDRESS_SIZE: Readonly<Record<Family, number>> = { ipv4: 4, ipv6: 16 };
/** net.ipv4.ip_default_ttl and net.ipv6.conf.*.hop_limit as the kernel sets them. */
const TTL = 64;

/** Source and destination of the packet, exchanged. Uses r1. */
export function emitSwappedIpAddresses(emission: Emission, ip: number): void {
  const { asm, facts, family } = emission;
  const size = ADDRESS_SIZE[family];
  for (const [fact, start] of [
    ['destination', 0],
    ['source', size],
  ] as const) {
    for (let word = 0; word * 4 < size; word++) {
      asm
        .load('u32', R1, R10, facts.offset(fact, word))
        .store('u32', R10, ip + ADDRESSES[family] + start + word * 4, R1);
    }
  }
}

/**
 * The rest of the header. r1 = length behind it (IPv6) or in all (IPv4), host order. `error` marks an ICMP error: those take
 * precedence over the type of service of what they answer, and may be fragmented. Uses r0..r5.
 */
export function emitIpHeader(emission: Emission, ip: number, protocol: number, error: boolean): void {
  const { asm, facts, family } = emission;
  asm.toBe(R1, 16);
  if (family === 'ipv6') {
    asm.store('u32', R10, ip, 0x60).store('u16', R10, ip + 4, R1);
    asm.store('u8', R10, ip + 6, protocol).store('u8', R10, ip + 7, TTL);
    return;
  }
  asm.store('u16', R10, ip + 2, R1).store('u8', R10, ip, 0x45);
  asm.store('u32', R10, ip + 4, error ? 0 : 0x0040_0000);
  asm
    .store('u8', R10, ip + 8, TTL)
    .store('u8', R10, ip + 9, protocol)
    .store('u16', R10, ip + 10, 0);
  if (error) {
    asm
      .load('u32', R1, R10, facts.offset('tos'))
      .and(R1, 0x1e)
      .or(R1, 0xc0)
      .store('u8', R10, ip + 1, R1);
    asm.call('bpf_get_prandom_u32').store('u16', R10, ip + 4, R0);
  } else {
    asm.store('u8', R10, ip + 1, 0);
  }
  asm.mov(R5, 0);
  emitFrameSum(emission, ip, HEADER_SIZE.ipv4);
  emitChecksum(emission);
  asm.store('u16', R10, ip + 10, R0);
}
