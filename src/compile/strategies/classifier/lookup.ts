/** Finds a chain's vectors for a packet: tries for the addresses, folded classes for the services. */
import { type Label, R0, R1, R2, R3, R4, R5, R10 } from '../../../isa/index.ts';
import type { Emission } from '../../emit/emission.ts';
import { FACT_WORDS } from './facts.ts';
import {
  CELL_TAGS,
  CellTag,
  CHAIN_SERVICES,
  Chain,
  NODE_BITS,
  SEARCH_KEYS,
  SERVICE_FIELD_SIZE,
  Service,
  ServiceField,
} from './layout.ts';
import type { WalkFrame } from './walkframe.ts';

/** Stores the vectors of the chain; 0 for those that it does not have. To `none` when one of them is empty. Uses r0..r5. */
export function emitFindVectors(emission: Emission, walk: WalkFrame, none: Label): void {
  emitAddressVector(emission, walk, 'source', walk.vectors[0]!, none);
  emitAddressVector(emission, walk, 'destination', walk.vectors[1]!, none);
  for (let index = 0; index < CHAIN_SERVICES; index++) {
    emitServiceVector(emission, walk, Chain.services + index * 4, walk.vectors[2 + index]!, none);
  }
}

function emitAddressVector(
  emission: Emission,
  walk: WalkFrame,
  side: 'source' | 'destination',
  to: number,
  none: Label,
): void {
  const { asm, facts, family, labels } = emission;
  const done = asm.label('trie_done');
  const descend = asm.label('trie_descend');
  const leaf = asm.label('trie_leaf');
  const wide = family === 'ipv6';
  const bits = side === 'source' ? Chain.sourceBits : Chain.destinationBits;

  asm.load('u32', R1, R10, walk.chain).castToKernel(R1, R1);
  asm.load('u32', R0, R1, Chain[side]).store('u32', R10, to, R0).jump('==', R0, 0, done);
  // r2, for IPv6 with r3 = the bits of the address that are still to be looked at, the next ones uppermost.
  asm.load('u32', R2, R10, facts.offset(side, 0)).toBe(R2, 32);
  if (!wide) asm.mov(R3, R2);
  asm.lsh(R2, 32);
  if (wide) {
    asm.load('u32', R4, R10, facts.offset(side, 1)).toBe(R4, 32).or(R2, R4);
    asm.load('u32', R3, R10, facts.offset(side, 2)).toBe(R3, 32).lsh(R3, 32);
    asm.load('u32', R4, R10, facts.offset(side, 3)).toBe(R4, 32).or(R3, R4);
  }
  asm.load('u32', R4, R1, bits).mov(R5, 64).sub(R5, R4);
  asm.mov(R1, R2).rsh(R1, R5).lsh(R1, 2).add(R1, R0).castToKernel(R1, R1);
  asm.lsh(R2, R4);
  if (wide) asm.mov(R0, R3).rsh(R0, R5).or(R2, R0).lsh(R3, R4);
  asm.load('u32', R1, R1, 0);

  asm.place(descend).mayGoto(labels.malformed);
  const comparison = asm.label('trie_comparison');
  asm.mov(R0, R1).and(R0, CELL_TAGS).jump('==', R0, CellTag.comparison, comparison);
  asm.jump('!=', R0, CellTag.node, leaf);
  asm
    .mov(R0, R2)
    .rsh(R0, 64 - NODE_BITS)
    .lsh(R0, 2)
    .add(R1, R0)
    .castToKernel(R1, R1);
  // The pointer's low bits are its tag: the node lies that much lower.
  asm.load('u32', R1, R1, -CellTag.node).lsh(R2, NODE_BITS);
  if (wide)
    asm
      .mov(R0, R3)
      .rsh(R0, 64 - NODE_BITS)
      .or(R2, R0)
      .lsh(R3, NODE_BITS);
  asm.goto(descend);
  asm.place(comparison);
  emitComparison(emission, side);
  asm.goto(descend);
  asm.place(leaf).jump('==', R1, 0, none).store('u32', R10, to, R1);
  asm.place(done);
}

/** r1 = the cell that the comparison at r1 chooses. IPv4: r3 = the address. Uses r0, r4, r5. */
function emitComparison(emission: Emission, side: 'source' | 'destination'): void {
  const { asm, facts, family } = emission;
  if (family === 'ipv4') {
    emitChoice(asm);
    return;
  }
  const outside = asm.label('outside');
  const chosen = asm.label('chosen');
  const at = (offset: number): number => offset - CellTag.comparison;
  const first = asm.label('not_before');
  const inside = asm.label('not_behind');
  asm.castToKernel(R1, R1);
  for (const [register, word] of [
    [R0, 0],
    [R5, 2],
  ] as const) {
    asm.load('u32', register, R10, facts.offset(side, word)).toBe(register, 32).lsh(register, 32);
    asm
      .load('u32', R4, R10, facts.offset(side, word + 1))
      .toBe(R4, 32)
      .or(register, R4);
  }
  asm.load('u64', R4, R1, at(0)).jump('<', R0, R4, outside).jump('!=', R0, R4, first);
  asm.load('u64', R4, R1, at(8)).jump('<', R5, R4, outside);
  asm.place(first).load('u64', R4, R1, at(16)).jump('>', R0, R4, outside).jump('!=', R0, R4, inside);
  asm.load('u64', R4, R1, at(24)).jump('>', R5, R4, outside);
  asm.place(inside).load('u32', R1, R1, at(32)).goto(chosen);
  asm.place(outside).load('u32', R1, R1, at(36));
  asm.place(chosen);
}

/**
 * r1 = the cell that the comparison or search at r1 chooses for the IPv4 address r3. Without branches, which would be foretold
 * wrongly half of the time: the sign of a difference is a number of cells. Uses r0, r4, r5.
 */
function emitChoice(asm: Emission['asm']): void {
  const search = asm.label('search');
  const chosen = asm.label('chosen');
  const sign = 63;
  asm.mov(R0, R1).and(R0, CellTag.search).castToKernel(R1, R1).jump('==', R0, CellTag.search, search);
  asm.load('u32', R4, R1, -CellTag.comparison).mov32(R0, R3).sub32(R0, R4);
  asm
    .load('u32', R4, R1, 4 - CellTag.comparison)
    .sub(R4, R0)
    .rsh(R4, sign)
    .lsh(R4, 2)
    .add(R1, R4);
  asm.load('u32', R1, R1, 8 - CellTag.comparison).goto(chosen);
  asm.place(search).mov(R5, 0);
  for (let key = 0; key < SEARCH_KEYS; key++) {
    asm
      .load('u32', R4, R1, key * 4 - CellTag.search)
      .sub(R4, R3)
      .rsh(R4, sign)
      .add(R5, R4);
  }
  asm
    .lsh(R5, 2)
    .add(R1, R5)
    .load('u32', R1, R1, SEARCH_KEYS * 4 - CellTag.search);
  asm.place(chosen);
}

function emitServiceVector(
  emission: Emission,
  walk: WalkFrame,
  service: number,
  to: number,
  none: Label,
): void {
  const { asm, labels } = emission;
  const done = asm.label('service_done');
  const fields = asm.label('service_fields');
  const known = asm.label('service_value');
  const within = asm.label('service_within');
  const next = asm.label('service_next');
  const folded = asm.label('service_folded');

  asm.load('u32', R1, R10, walk.chain).castToKernel(R1, R1);
  asm.load('u32', R5, R1, service).store('u32', R10, to, R5).jump('==', R5, 0, done);
  asm.castToKernel(R5, R5).load('u32', R4, R5, Service.fields);
  asm.load('u32', R1, R5, Service.vectors).store('u32', R10, walk.classes, R1);
  asm.add(R5, Service.first).load('u32', R3, R5, ServiceField.fold);

  // r5 = field, r4 = fields left, r3 = class so far (0 at first: the first field has no table to fold by).
  asm.place(fields).mayGoto(labels.malformed).jump('==', R4, 0, folded);
  asm.load('u32', R1, R10, walk.kind).lsh(R1, 2).add(R1, R5);
  asm.load('u32', R0, R1, ServiceField.overrides).jump('!=', R0, 0, known);
  asm.load('u32', R0, R5, ServiceField.fact).jump('>=', R0, FACT_WORDS.length, labels.malformed);
  asm.lsh(R0, 2).mov(R1, R10).add(R1, walk.facts).add(R1, R0).load('u32', R0, R1, 0);
  asm.place(known).load('u32', R1, R5, ServiceField.maximum).jump('<=', R0, R1, within).mov(R0, R1);
  asm.place(within).mov(R1, R0).rsh(R1, 8).lsh(R1, 2).load('u32', R2, R5, ServiceField.pages);
  asm.add(R2, R1).castToKernel(R2, R2).load('u32', R2, R2, 0);
  asm.and(R0, 0xff).lsh(R0, 2).add(R2, R0).castToKernel(R2, R2).load('u32', R0, R2, 0);
  asm.load('u32', R1, R5, ServiceField.fold).jump('==', R1, 0, next);
  asm.load('u32', R2, R5, ServiceField.classes).mul(R3, R2).add(R0, R3).lsh(R0, 2).add(R1, R0);
  asm.castToKernel(R1, R1).load('u32', R0, R1, 0);
  asm.place(next).mov(R3, R0).add(R5, SERVICE_FIELD_SIZE).sub(R4, 1).goto(fields);

  asm.place(folded).load('u32', R1, R10, walk.classes).lsh(R3, 2).add(R1, R3).castToKernel(R1, R1);
  asm.load('u32', R1, R1, 0).jump('==', R1, 0, none).store('u32', R10, to, R1);
  asm.place(done);
}
