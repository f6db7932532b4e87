import { describe, expect, it } from 'vitest';
import { concatenate } from './bytes.ts';
import { emitIpv6 } from './ipv6.ts';
import {
  findIpv6Header,
  IP6_FH_F_AUTH,
  IP6_FH_F_FRAG,
  IP6_FH_F_SKIP_RH,
  newFoundHeader,
} from './ipv6-find-header.ts';

const ends = { source: new Uint8Array(16), destination: new Uint8Array(16) };
const packet = (nextHeader: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  emitIpv6({ trafficClass: 0, flowLabel: 0, nextHeader, hopLimit: 64, ...ends }, concatenate(...parts));
const header = (next: number, ...rest: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(8);
  bytes.set([next, ...rest]);
  return bytes;
};
const fragment = (next: number, offset: number, more = false): Uint8Array =>
  header(next, 0, (offset * 8) >> 8, ((offset * 8) & 0xf8) | (more ? 1 : 0));
const find = (bytes: Uint8Array, target = -1, flags = 0, end = bytes.length): readonly number[] => {
  const found = newFoundHeader();
  const result = findIpv6Header(bytes, 0, end, target, flags, found);
  expect(result).toBe(found.protocol);
  return [found.protocol, found.offset, found.fragmentOffset, found.flags];
};

// Expected values follow from reading ipv6_find_hdr, net/ipv6/exthdrs_core.c, case by case.
describe('ipv6_find_hdr', () => {
  it('finds the last header behind the chain', () => {
    expect(find(packet(6, header(0)))).toEqual([6, 40, 0, 0]);
    expect(find(packet(0, header(43), header(60), header(17), header(0)))).toEqual([17, 64, 0, 0]);
    expect(find(packet(59))).toEqual([59, 40, 0, 0]);
  });

  it('counts AH in words of 4 bytes, and stops at it only when told', () => {
    const bytes = packet(51, header(6, 1), new Uint8Array(4), header(0));
    expect(find(bytes)).toEqual([6, 52, 0, 0]);
    expect(find(bytes, -1, IP6_FH_F_AUTH)).toEqual([51, 40, 0, IP6_FH_F_AUTH]);
  });

  it('walks no mobility, HIP, shim6 or ESP header', () => {
    for (const end of [135, 139, 140, 50])
      expect(find(packet(end, header(6), header(0)))).toEqual([end, 40, 0, 0]);
  });

  it('skips a first fragment header, and reports a later one in bytes without an offset', () => {
    expect(find(packet(44, fragment(17, 0, true), header(0)))).toEqual([17, 48, 0, IP6_FH_F_FRAG]);
    expect(find(packet(44, fragment(17, 181), header(0)))).toEqual([17, 0, 1448, IP6_FH_F_FRAG]);
    expect(find(packet(44, fragment(59, 1)))).toEqual([59, 0, 8, IP6_FH_F_FRAG]);
  });

  it('finds nothing in a later fragment whose next header is an extension', () => {
    expect(find(packet(44, fragment(60, 181), header(17)))).toEqual([-1, 0, 0, IP6_FH_F_FRAG]);
    expect(find(packet(44, fragment(6, 181)), 6)).toEqual([-1, 0, 0, IP6_FH_F_FRAG]);
  });

  it('finds the fragment header itself, with its offset', () => {
    expect(find(packet(44, fragment(6, 181)), 44)).toEqual([44, 40, 1448, IP6_FH_F_FRAG]);
    expect(find(packet(44, fragment(6, 0)), 44)).toEqual([44, 40, 0, IP6_FH_F_FRAG]);
    expect(find(packet(6, header(0)), 44)).toEqual([-1, 0, 0, 0]);
  });

  it('takes a routing header without segments left for the target unless told to skip it', () => {
    const spent = packet(43, header(43, 0, 0, 0), header(6, 0, 0, 1), header(0));
    expect(find(spent, 43)).toEqual([43, 40, 0, 0]);
    expect(find(spent, 43, IP6_FH_F_SKIP_RH)).toEqual([43, 48, 0, IP6_FH_F_SKIP_RH]);
  });

  it('gives up where the two bytes that say how to go on are missing, not where the header is', () => {
    const bytes = packet(0, header(6), header(0));
    expect(find(bytes, -1, 0, 41)).toEqual([-1, 0, 0, 0]);
    expect(find(bytes, -1, 0, 42)).toEqual([6, 48, 0, 0]);
    expect(find(bytes, -1, 0, 39)).toEqual([-1, 0, 0, 0]);
    const routed = packet(43, header(6), header(0));
    expect(find(routed, -1, 0, 43)).toEqual([-1, 0, 0, 0]);
    expect(find(routed, -1, 0, 44)).toEqual([6, 48, 0, 0]);
    const cut = packet(44, fragment(6, 0), header(0));
    expect(find(cut, -1, 0, 43)).toEqual([-1, 0, 0, IP6_FH_F_FRAG]);
    expect(find(cut, -1, 0, 44)).toEqual([6, 48, 0, IP6_FH_F_FRAG]);
  });
});
