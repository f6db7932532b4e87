/** What a walk keeps in the frame, beside the facts. */
import type { Emission } from '../../emit/emission.ts';
import { Frame } from '../../emit/frame.ts';
import { FACT_WORDS } from './facts.ts';
import { CHAIN_SERVICES, MAX_DEPTH } from './layout.ts';

/** Vectors that a chain can have: source, destination, services. */
export const VECTORS: number = 2 + CHAIN_SERVICES;

const WALK_WORDS = [
  'walk.entry',
  'walk.depth',
  'walk.list',
  'walk.base',
  'walk.chain',
  'walk.from',
  'walk.record',
  'walk.kind',
  'walk.node',
  'walk.stage',
  'walk.blockBase',
  'walk.wordBase',
  'walk.classes',
  'walk.operand',
  ...Array.from({ length: VECTORS }, (_, index) => `walk.vector${index}`),
  ...Array.from({ length: VECTORS }, (_, index) => `walk.block${index}`),
] as const;

/** Slots and words of what the walk calls upon. */
const SLOTS = ['handed', 'identity', 'logRecord'] as const;
const WORDS = ['extensionRounds', 'optionsPlace', 'ctInfo'] as const;
const SCRATCH = 40;
/** Never in use at the same time. */
const SHARED: readonly (readonly [name: string, other: string])[] = [
  ['optionsLength', 'logRecord'],
  ['set.key', 'scratch'],
  ['set.home', 'extensionRounds'],
  ['set.own', 'optionsPlace'],
  ['set.slot', 'ctInfo'],
];
const SET_WORDS = [
  'set.wanted',
  'set.bucket',
  'set.state',
  'set.place',
  'set.entry',
  'set.length0',
  'set.length1',
] as const;

/** A frame whose lowest words are the facts, by place, and the walk's numbers; `sets`: with room for what looks sets up. */
export function walkFrame(sets: boolean): Frame {
  const frame = new Frame();
  frame.block('dynptr', DYNPTR);
  frame.block('scratch', SCRATCH);
  frame.block('fib', MAX_DEPTH * 4);
  for (const name of SLOTS) frame.slot(name);
  for (const name of BITS) frame.slot(name);
  frame.array([...FACT_WORDS, ...besideWalkWords(['walk.found', ...WORDS, ...(sets ? SET_WORDS : [])])]);
  for (const [name, other] of SHARED) frame.share(name, other);
  return frame;
}

/**
 * The walk's words, and each of the others in the upper half of a slot: the verifier does not follow what is stored there,
 * so loops that count in them are verified once (see Frame).
 */
function besideWalkWords(upper: readonly string[]): string[] {
  const first = FACT_WORDS.length % 2;
  const words: string[] = WALK_WORDS.slice(0, first);
  for (const [index, name] of upper.entries()) words.push(WALK_WORDS[first + index]!, name);
  return [...words, ...WALK_WORDS.slice(first + upper.length)];
}

const DYNPTR = 16;
const BITS = ['walk.blockBits', 'walk.wordBits', 'walk.ruleBits'] as const;

/** Offsets from r10. */
export interface WalkFrame {
  /** The facts' array. */
  readonly facts: number;
  /** Words. Pointers are arena offsets as tables have them. */
  readonly entry: number;
  /** Jumps under way. */
  readonly depth: number;
  /** The next place of the list of chains. */
  readonly list: number;
  /** The built-in chain's first part, and the part that is walked. */
  readonly base: number;
  readonly chain: number;
  /** Index of the first rule that is still to be looked at when the part is entered. */
  readonly from: number;
  readonly record: number;
  /** PacketKind */
  readonly kind: number;
  readonly node: number;
  /** 0 before the routing decision */
  readonly stage: number;
  readonly blockBase: number;
  readonly wordBase: number;
  readonly classes: number;
  readonly operand: number;
  /** The records whose vectors are in the frame, plus 1 when one of them is empty; 0: none are. */
  readonly found: number;
  /** The description of the set that is looked up, and its record: in words that nobody needs then. */
  readonly setSpec: number;
  readonly setRecord: number;
  readonly vectors: readonly number[];
  readonly blocks: readonly number[];
  /** u64 bits that are still to be looked at: of blocks, words, rules. */
  readonly blockBits: number;
  readonly wordBits: number;
  readonly ruleBits: number;
  /** u32[MAX_DEPTH] records of the jumps under way. Shares its place with what the routing decision needs before. */
  readonly returns: number;
}

export function walkOffsets({ frame }: Emission): WalkFrame {
  const word = (name: string): number => frame.word(`walk.${name}`);
  const each = (name: string): number[] =>
    Array.from({ length: VECTORS }, (_, index) => word(`${name}${index}`));
  return {
    facts: frame.block('array', 0),
    entry: word('entry'),
    depth: word('depth'),
    list: word('list'),
    base: word('base'),
    chain: word('chain'),
    from: word('from'),
    record: word('record'),
    kind: word('kind'),
    node: word('node'),
    stage: word('stage'),
    blockBase: word('blockBase'),
    wordBase: word('wordBase'),
    classes: word('classes'),
    operand: word('operand'),
    found: word('found'),
    setSpec: word('operand'),
    setRecord: word('classes'),
    vectors: each('vector'),
    blocks: each('block'),
    blockBits: frame.slot('walk.blockBits'),
    wordBits: frame.slot('walk.wordBits'),
    ruleBits: frame.slot('walk.ruleBits'),
    returns: frame.block('fib', MAX_DEPTH * 4),
  };
}
