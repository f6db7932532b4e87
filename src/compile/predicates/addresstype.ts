/**
 * `-m addrtype`: the kernel's route type of an address, from the surroundings' table of address types (docs/arena.md):
 * programs at most hooks may not ask the routing tables. Entries go from long prefixes to short; none: unicast.
 */

import type { AddressTypePredicate } from '../../ir/index.ts';
import { type Label, R1, R2, R3, R4, R5, R7, R10 } from '../../isa/index.ts';
import {
  ADDRESS_TYPE4_SIZE,
  ADDRESS_TYPE6_SIZE,
  AddressType4,
  AddressType6,
  Generation,
  Surroundings,
} from '../arena/layout.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitLoopHead } from '../emit/loop.ts';

const RTN_UNICAST = 1;

/** RTN_UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST: what the table can tell; others depend on routes. */
export const TABLE_TYPES: number = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 5);

export function addressTypeNeeds(predicate: AddressTypePredicate): readonly Fact[] {
  const address: Fact = predicate.field === 'ip.source' ? 'source' : 'destination';
  if (predicate.limitTo === 'none') return [address];
  return [address, predicate.limitTo === 'in' ? 'inIfindex' : 'outIfindex'];
}

/** Uses r1..r5. */
export function emitAddressType(emission: Emission, predicate: AddressTypePredicate, fail: Label): void {
  const { asm } = emission;
  emitTypeWalk(emission, predicate);
  asm
    .mov(R2, 1)
    .and(R1, 31)
    .lsh(R2, R1)
    .and32(R2, predicate.types >>> 0);
  asm.jump(predicate.negate ? '!=' : '==', R2, 0, fail);
}

/** r1 = RTN_* of the address. Uses r1..r5. */
export function emitTypeWalk(
  emission: Emission,
  predicate: Pick<AddressTypePredicate, 'field' | 'limitTo'>,
): void {
  const { asm, facts, family } = emission;
  const address = predicate.field === 'ip.source' ? 'source' : 'destination';
  const ipv4 = family === 'ipv4';
  const entry = ipv4 ? AddressType4 : AddressType6;
  const size = ipv4 ? ADDRESS_TYPE4_SIZE : ADDRESS_TYPE6_SIZE;
  const walk = asm.label('type_walk');
  const next = asm.label('type_next');
  const unicast = asm.label('type_unicast');
  const decided = asm.label('type_decided');

  // r3 = entry, r4 = entries left, r1 = type.
  asm.load('u32', R3, R7, Generation.surroundings).castToKernel(R3, R3);
  asm.load('u32', R4, R3, ipv4 ? Surroundings.addresses4Count : Surroundings.addresses6Count);
  asm.load('u32', R3, R3, ipv4 ? Surroundings.addresses4 : Surroundings.addresses6).castToKernel(R3, R3);
  emitLoopHead(emission, walk);
  asm.jump('==', R4, 0, unicast);
  for (let word = 0; word < (ipv4 ? 1 : 4); word++) {
    asm.load('u32', R1, R10, facts.offset(address, word));
    asm.load('u32', R2, R3, entry.mask + word * 4).and(R1, R2);
    asm.load('u32', R2, R3, entry.value + word * 4).jump('!=', R1, R2, next);
  }
  asm.load('u32', R1, R3, entry.type);
  if (predicate.limitTo !== 'none') {
    const device = facts.offset(predicate.limitTo === 'in' ? 'inIfindex' : 'outIfindex');
    // inet_dev_addr_type: an address of another device counts as unicast; those of no device as they are.
    asm.load('u32', R2, R3, entry.device).jump('==', R2, 0, decided);
    asm.load('u32', R5, R10, device).jump('!=', R2, R5, unicast);
  }
  asm.goto(decided);
  asm.place(next).sub(R4, 1).add(R3, size).goto(walk);
  asm.place(unicast).mov(R1, RTN_UNICAST);
  asm.place(decided);
}
