/** Device names, compared under a mask as ip_packet_match does (net/ipv4/netfilter/ip_tables.c, ifname_compare_aligned). */

import type { DevicePredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import { DEVICE_NAME_SIZE } from '../arena/layout.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

function deviceFact(predicate: DevicePredicate): 'inDevice' | 'outDevice' {
  return predicate.side === 'in' ? 'inDevice' : 'outDevice';
}

export function deviceNeeds(predicate: DevicePredicate): readonly Fact[] {
  return [deviceFact(predicate)];
}

export function emitDevice(emission: Emission, predicate: DevicePredicate, fail: Label): void {
  const { asm, facts } = emission;
  const different = predicate.negate ? asm.label('differs') : fail;
  const name = new Uint8Array(DEVICE_NAME_SIZE);
  // Names are kept one character a byte, whatever the bytes are.
  for (let at = 0; at < Math.min(predicate.name.length, DEVICE_NAME_SIZE - 1); at++) {
    name[at] = predicate.name.charCodeAt(at);
  }
  // An exact name is compared with its final zero byte, a prefix without.
  const compared = predicate.wildcard ? predicate.name.length : predicate.name.length + 1;
  const view = new DataView(name.buffer);
  for (let word = 0; word * 4 < compared; word++) {
    const bytes = Math.min(4, compared - word * 4);
    asm.load('u32', R1, R10, facts.offset(deviceFact(predicate), word));
    if (bytes < 4) asm.and32(R1, 2 ** (bytes * 8) - 1);
    asm.jump32('!=', R1, view.getUint32(word * 4, true), different);
  }
  if (predicate.negate) asm.goto(fail).place(different);
}
