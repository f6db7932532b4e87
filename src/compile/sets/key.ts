/** The key that a packet has in a set, in the frame, and the search for it in the set's table. */
import type { SetKey, SetKeySource } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R4, R5, R10, type Register } from '../../isa/index.ts';
import type { Family } from '../../net/index.ts';
import { SET_RECORD_SIZE, SETS_OFFSET } from '../arena/layout.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { NO_SET_PORT } from '../prologue/setport.ts';
import { BUCKET_SLOTS, Bucket, LengthNode, MAX_DISTANCE, SetRecord, State, TAG_BITS } from './layout.ts';

const KEY_BYTES = 40;
const TCP = 6;
const UDP = 17;

/** Offsets from r10 of what a search keeps between two instructions. Pointers are the arena's, not cast. */
export interface SetFrame {
  readonly key: number;
  /** The state word looked for, its distance included. */
  readonly wanted: number;
  /** The bucket under the search. */
  readonly bucket: number;
  /** Of the entry found: its state, where that lies, and the entry. */
  readonly state: number;
  readonly place: number;
  readonly entry: number;
  /** Nodes of the prefix lengths under the search. */
  readonly lengths: readonly [number, number];
  /** The key's home bucket. */
  readonly home: number;
  /** Place of the state of an entry that the search passes over; slots still to be looked at. */
  readonly own: number;
  readonly slot: number;
}

export function setFrame({ frame }: Emission): SetFrame {
  return {
    key: frame.block('set.key', KEY_BYTES),
    wanted: frame.word('set.wanted'),
    bucket: frame.word('set.bucket'),
    state: frame.word('set.state'),
    place: frame.word('set.place'),
    entry: frame.word('set.entry'),
    lengths: [frame.word('set.length0'), frame.word('set.length1')],
    home: frame.word('set.home'),
    own: frame.word('set.own'),
    slot: frame.word('set.slot'),
  };
}

const FACTS: Readonly<Record<Exclude<SetKeySource['from'], 'lengths' | 'mac.destination'>, Fact>> = {
  'ip.source': 'source',
  'ip.destination': 'destination',
  in: 'inDevice',
  out: 'outDevice',
  'mac.source': 'macSource',
  mark: 'mark',
  'port.source': 'sourceSetPort',
  'port.destination': 'destinationSetPort',
  'tcp-port.source': 'sourceSetPort',
  'tcp-port.destination': 'destinationSetPort',
};

export function setKeyNeeds({ words }: SetKey): readonly Fact[] {
  return words.flatMap(({ from }) => {
    if (from === 'lengths' || from === 'mac.destination') return [];
    return from === 'mac.source' ? (['macSource', 'hasMac'] as const) : [FACTS[from]];
  });
}

/** `to` = the set's record, to be loaded through. */
export function emitSetRecord({ asm }: Emission, { slot }: SetKey, to: Register): void {
  asm.loadArena(to, 'arena', SETS_OFFSET + slot * SET_RECORD_SIZE).castToKernel(to, to);
}

/** Words of the key with all bits of its networks; to `missing` when the packet lacks one. Uses r1, r2, r3. */
export function emitSetKey(emission: Emission, key: SetKey, missing: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  emitSetRecord(emission, key, R3);
  for (const [index, source] of key.words.entries()) {
    if (source.from === 'lengths') {
      asm.store('u32', R10, at.key + index * 4, 0);
      continue;
    }
    emitKeyWord(emission, source, missing);
    asm
      .load('u32', R2, R3, SetRecord.masks + index * 4)
      .and(R1, R2)
      .store('u32', R10, at.key + index * 4, R1);
  }
}

/** r1 = the word. Uses r2. */
function emitKeyWord(emission: Emission, { from, word }: SetKeySource, missing: Label): void {
  const { asm, facts } = emission;
  if (from === 'lengths' || from === 'mac.destination') throw new RangeError(`no fact is ${from}`);
  asm.load('u32', R1, R10, facts.offset(FACTS[from], word));
  if (word > 0) return;
  switch (from) {
    case 'in':
    case 'out':
      asm.jump('==', R1, 0, missing);
      break;
    case 'mac.source': {
      const there = asm.label('mac');
      asm.load('u32', R2, R10, facts.offset('hasMac')).jump('==', R2, 0, missing);
      asm.jump('!=', R1, 0, there);
      asm.load('u32', R2, R10, facts.offset('macSource', 1)).jump('==', R2, 0, missing);
      asm.place(there);
      break;
    }
    case 'port.source':
    case 'port.destination':
      asm.jump32('==', R1, NO_SET_PORT, missing);
      break;
    case 'tcp-port.source':
    case 'tcp-port.destination': {
      const known = asm.label('port');
      asm.mov(R2, R1).rsh(R2, 16).jump('==', R2, TCP, known).jump('!=', R2, UDP, missing);
      asm.place(known);
      break;
    }
  }
}

export function addressWords(family: Family): number {
  return family === 'ipv4' ? 1 : 4;
}

/** Masks the key's network by the length whose node is noted, and puts the length into the key. Uses r0, r1, r2. */
export function emitNarrow(emission: Emission, key: SetKey, network: 0 | 1): void {
  const { asm, facts, family } = emission;
  const at = setFrame(emission);
  const width = addressWords(family);
  asm.load('u32', R2, R10, at.lengths[network]).castToKernel(R2, R2);
  for (let word = 0; word < width; word++) {
    const index = network * width + word;
    const source = key.words[index]!;
    asm.load('u32', R1, R10, facts.offset(FACTS[source.from as 'ip.source'], source.word));
    asm
      .load('u32', R0, R2, LengthNode.mask + word * 4)
      .and(R1, R0)
      .store('u32', R10, at.key + index * 4, R1);
  }
  const lengths = at.key + key.networks * width * 4;
  asm.load('u32', R1, R2, LengthNode.length);
  if (network === 1) {
    asm.load('u32', R2, R10, at.lengths[0]).castToKernel(R2, R2).load('u32', R2, R2, LengthNode.length);
    asm.lsh(R1, 8).or(R1, R2);
  }
  asm.store('u32', R10, lengths, R1);
}

/** Notes the home bucket of the key in the frame, and what a state word of it would be there. Uses r0..r5. */
export function emitHome(emission: Emission, key: SetKey): void {
  const { asm } = emission;
  const at = setFrame(emission);
  emitSetRecord(emission, key, R3);
  asm.load('u64', R0, R3, SetRecord.start);
  for (let word = 0; word < key.words.length; word++) {
    asm.load('u32', R1, R10, at.key + word * 4).load('u64', R2, R3, SetRecord.multipliers + word * 8);
    asm.mul(R1, R2).add(R0, R1);
  }
  asm
    .rsh(R0, 32)
    .mov(R5, R0)
    .rsh(R5, 32 - TAG_BITS)
    .lsh(R5, State.tagShift)
    .or(R5, State.full);
  asm.store('u32', R10, at.wanted, R5);
  asm.load('u64', R1, R3, SetRecord.table).mov(R2, R1).rsh(R2, 32).and(R0, R2).mov32(R1, R1);
  asm.load('u32', R2, R3, SetRecord.bucketSize).mul(R0, R2).add(R1, R0);
  asm.store('u32', R10, at.bucket, R1).store('u32', R10, at.home, R1);
}

/**
 * Finds the entry of the key in the frame: to `found` with its state, place and entry noted and in r1 the entry, to be loaded
 * through; else to `absent`. With `others` the entry noted as own is passed over. An entry that is rewritten during the look at it is another one. Uses r0..r5.
 */
export function emitFind(emission: Emission, key: SetKey, found: Label, absent: Label, others = false): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const bucket = asm.label('set_bucket');
  const candidate = asm.label('set_candidate');
  const exhausted = asm.label('set_bucket_done');
  const words = key.words.length;

  emitHome(emission, key);
  asm.place(bucket).mayGoto(absent);
  asm.load('u32', R3, R10, at.bucket).castToKernel(R3, R3).load('u32', R5, R10, at.wanted);
  // r4 = which slots it could be: a bit each, without a branch.
  asm.mov(R4, 0);
  for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
    asm
      .load('u32', R1, R3, Bucket.states + slot * 4)
      .and(R1, State.same)
      .xor(R1, R5)
      .sub(R1, 1)
      .rsh(R1, 63);
    if (slot > 0) asm.lsh(R1, slot);
    asm.or(R4, R1);
  }
  asm.place(candidate).mayGoto(absent).jump('==', R4, 0, exhausted);
  emitTakeSlot(emission);
  // r0 = the slot. Its state, and the entry behind it.
  asm.load('u32', R3, R10, at.bucket).mov(R1, R0).lsh(R1, 2).add(R1, R3).store('u32', R10, at.place, R1);
  if (others) asm.load('u32', R2, R10, at.own).jump('==', R1, R2, candidate);
  asm.castToKernel(R1, R1).load('u32', R2, R1, 0).store('u32', R10, at.state, R2);
  asm.and(R2, State.same).load('u32', R5, R10, at.wanted).jump('!=', R2, R5, candidate);
  emitSetRecord(emission, key, R1);
  asm.load('u32', R1, R1, SetRecord.entrySize).mul(R0, R1).add(R0, R3).add(R0, Bucket.entries);
  asm.store('u32', R10, at.entry, R0).castToKernel(R1, R0);
  for (let word = 0; word < words; word++) {
    asm
      .load('u32', R2, R1, word * 4)
      .load('u32', R5, R10, at.key + word * 4)
      .jump('!=', R2, R5, candidate);
  }
  asm.load('u32', R2, R10, at.place).castToKernel(R2, R2).load('u32', R2, R2, 0);
  asm.load('u32', R5, R10, at.state).jump('!=', R2, R5, candidate).goto(found);

  asm.place(exhausted);
  emitNextBucket(emission, key, bucket, absent);
}

/** r0 = number of the lowest bit in r4, which is taken out. Uses r1, r2. */
function emitTakeSlot({ asm }: Emission): void {
  const low4 = asm.label('slot_low');
  const low2 = asm.label('slot_even');
  asm.mov(R1, R4).neg(R1).and(R1, R4).xor(R4, R1).mov(R0, 0);
  asm.jump('<', R1, 16, low4).add(R0, 4).rsh(R1, 4);
  asm.place(low4).jump('<', R1, 4, low2).add(R0, 2).rsh(R1, 2);
  asm.place(low2).rsh(R1, 1).add(R0, R1);
}

/**
 * On to the bucket behind the noted one, as far as entries of the home bucket can lie: to `again`, else to `end`. From the
 * home bucket only when some of its entries lie further on. Uses r0..r5.
 */
export function emitNextBucket(emission: Emission, key: SetKey, again: Label, end: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const further = asm.label('set_further');
  asm.load('u32', R5, R10, at.wanted).mov(R1, R5).rsh(R1, State.distanceShift).and(R1, MAX_DISTANCE);
  asm.jump('!=', R1, 0, further);
  asm.load('u32', R3, R10, at.bucket).castToKernel(R3, R3).load('u32', R2, R3, Bucket.overflow);
  asm.jump('==', R2, 0, end);
  asm.place(further).jump('==', R1, MAX_DISTANCE, end);
  emitAdvance(emission, key, again);
}

/** The bucket behind the noted one, around the end of the table, and one more distance; to `again`. Uses r0..r5. */
export function emitAdvance(emission: Emission, key: SetKey, again: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const within = asm.label('set_within');
  asm
    .load('u32', R5, R10, at.wanted)
    .add(R5, 1 << State.distanceShift)
    .store('u32', R10, at.wanted, R5);
  emitSetRecord(emission, key, R3);
  asm.load('u32', R2, R3, SetRecord.bucketSize).load('u64', R1, R3, SetRecord.table).mov(R0, R1).rsh(R0, 32);
  // r0 = the last bucket.
  asm.mov32(R1, R1).mul(R0, R2).add(R0, R1);
  asm.load('u32', R4, R10, at.bucket).add(R4, R2).jump('<=', R4, R0, within).mov(R4, R1);
  asm.place(within).store('u32', R10, at.bucket, R4).goto(again);
}
