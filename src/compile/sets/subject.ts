/**
 * A set and the packet's key in it, as the code that looks at sets and changes them asks for them. Where rules are code all
 * is known when it is written; tables describe it, and one piece of code serves any set (strategies/classifier/sets.ts).
 */
import type { SetKey, SetKeySource } from '../../ir/index.ts';
import { type Label, R1, R2, R3, R10, type Register } from '../../isa/index.ts';
import { SET_RECORD_SIZE, SETS_OFFSET } from '../arena/layout.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { NO_SET_PORT } from '../prologue/setport.ts';
import { addressWords, setFrame } from './frame.ts';
import { SetRecord } from './layout.ts';

const TCP = 6;
const UDP = 17;

export interface SetSubject {
  /** The most words that tell entries apart, and networks, that the key can have. */
  readonly words: number;
  readonly networks: 0 | 1 | 2;
  /** False where it is known that any key may be in the set. */
  readonly bounded: boolean;
  /** False where it is known that entries hold no MAC address. */
  readonly mayHoldMac: boolean;
  /** `to` = the set's record, to be loaded through. */
  record(to: Register): void;
  /**
   * Writes the key with all bits of its networks, and the MAC address where entries hold one; to `missing` when the packet lacks a
   * part. Uses r0..r5.
   */
  key(missing: Label): void;
  /** What loads words of the packet's address for a network, as the packet has it. Until then `pointer` is taken. */
  address(network: 0 | 1, pointer: Register): (word: number, to: Register) => void;
  /** To `end` when the key has no such word. Word 0 is always there. Uses `scratch`, whose contents later words rely on. */
  unlessWord(word: number, scratch: Register, end: Label): void;
  /** Where ways meet and loops begin: what the verifier need not know apart ends here. Uses r1, r2, r3. */
  settle(): void;
  /** To `end` when the key has no such network. Uses `scratch`. */
  unlessNetwork(network: number, scratch: Register, end: Label): void;
}

/** All is known. */
export function knownSubject(emission: Emission, key: SetKey): SetSubject {
  const { asm, facts, family } = emission;
  const subject: SetSubject = {
    words: key.identity,
    networks: key.networks,
    bounded: key.networks === 0,
    mayHoldMac: key.identity < key.words.length,
    record: (to) => {
      asm.loadArena(to, 'arena', SETS_OFFSET + key.slot * SET_RECORD_SIZE).castToKernel(to, to);
    },
    key: (missing) => emitSetKey(emission, subject, key, missing),
    address: (network) => {
      const { from } = key.words[network * addressWords(family)]!;
      return (word, to) => asm.load('u32', to, R10, facts.offset(FACTS[from as 'ip.source'], word));
    },
    settle: () => {},
    unlessWord: () => {},
    unlessNetwork: () => {},
  };
  return subject;
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

/** Words of the key with all bits of its networks, then those that are held; to `missing` when the packet lacks one. Uses r1, r2, r3. */
export function emitSetKey(emission: Emission, subject: SetSubject, key: SetKey, missing: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  subject.record(R3);
  for (const [index, source] of key.words.entries()) {
    if (source.from === 'lengths') {
      asm.store('u32', R10, at.key + index * 4, 0);
      continue;
    }
    emitKeyWord(emission, source, missing);
    if (index >= key.identity) {
      asm.store('u32', R10, at.mac + (index - key.identity) * 4, R1);
      continue;
    }
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
  const part = PARTS[from];
  if (word === 0 && part !== undefined) emitPresence(emission, part, missing);
}

/** Parts of a key that a packet can lack. */
export type SetPart = 'device' | 'mac' | 'port' | 'tcp-port';

const PARTS: Partial<Record<SetKeySource['from'], SetPart>> = {
  in: 'device',
  out: 'device',
  'mac.source': 'mac',
  'port.source': 'port',
  'port.destination': 'port',
  'tcp-port.source': 'tcp-port',
  'tcp-port.destination': 'tcp-port',
};

/** The fact that a word of a key is, and what it is a part of where packets can lack it. */
export function setKeyFact(from: SetKeySource['from']): { fact: Fact; part: SetPart | undefined } {
  if (from === 'lengths' || from === 'mac.destination') throw new RangeError(`no fact is ${from}`);
  return { fact: FACTS[from], part: PARTS[from] };
}

/** To `missing` when the packet lacks the part whose first word is in r1. Uses r2. */
export function emitPresence({ asm, facts }: Emission, part: SetPart, missing: Label): void {
  switch (part) {
    case 'device':
      asm.jump('==', R1, 0, missing);
      break;
    case 'mac': {
      const there = asm.label('mac');
      asm.load('u32', R2, R10, facts.offset('hasMac')).jump('==', R2, 0, missing);
      asm.jump('!=', R1, 0, there);
      asm.load('u32', R2, R10, facts.offset('macSource', 1)).jump('==', R2, 0, missing);
      asm.place(there);
      break;
    }
    case 'port':
      asm.jump32('==', R1, NO_SET_PORT, missing);
      break;
    case 'tcp-port': {
      const known = asm.label('port');
      asm.mov(R2, R1).rsh(R2, 16).jump('==', R2, TCP, known).jump('!=', R2, UDP, missing);
      asm.place(known);
      break;
    }
  }
}
