/**
 * What a policy knows of itself beyond its programs: JSON in maps that are frozen once written and pinned beside the rest.
 * A change makes a new document; none is ever written twice.
 */
import type {
  AttachPoint,
  FragmentStrategy,
  HookName,
  LogPoint,
  MarkChanges,
  StrategyName,
} from '../../compile/index.ts';
import { BpfMap, openPinnedMap } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import type { ListMember, TableName } from '../../rules/index.ts';
import { PolicyError } from './error.ts';
import type { Manner } from './manner.ts';

/** Of the policy as a whole: pinned as `about`. */
export interface PolicyDocument {
  readonly build: string;
  readonly arenaVersion: number;
  /** Place among the policies at one hook; see `priorityOf`. */
  readonly order: number;
}

/** Of a namespace: pinned as `netns/<cookie>/about`. */
export interface NetnsDocument {
  readonly inode: number;
  /** As it was named when the policy came there; empty for the namespace of the command itself. */
  readonly name: string;
}

/** Where a chain lies: its number in the tables, and its counters. */
export interface ChainCounters {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  /** 0: no table has it. */
  readonly number: number;
  /** Of its rules, in their order: runs of counters one behind the other, by the first of them and their number. */
  readonly rules: readonly (readonly [first: number, count: number])[];
  readonly policy?: number;
}

/** Counters of the chain's rules, in their order. */
export function ruleCounters({ rules }: ChainCounters): number[] {
  return rules.flatMap(([first, count]) => Array.from({ length: count }, (_, index) => first + index));
}

/** A program of a generation, by content: where it lies in which program array. */
export interface PlacedProgram {
  readonly point: AttachPoint;
  readonly array: string;
  readonly index: number;
  readonly hash: string;
}

/** How many programs these are: attach points where rules are tables share one. */
export function countPrograms(programs: readonly PlacedProgram[]): number {
  return new Set(programs.map(({ array, index }) => `${array} ${index}`)).size;
}

/** What the kernel's own code does for the programs. */
export interface KernelAids {
  readonly conntrack: boolean;
  /** Attach points whose programs hand actions on. */
  readonly chains: readonly (AttachPoint & { flavour: 'netfilter' })[];
  readonly marks: MarkChanges;
  readonly rejects: Readonly<Record<Family, readonly number[]>>;
}

/** One namespace of an `apply`. */
export interface Member {
  /** Netns cookie, decimal. */
  readonly cookie: string;
  /** Number of its generation. */
  readonly number: number;
  /** Names of the links that the generation wants. */
  readonly links: readonly string[];
}

/** An IP set that a generation knows: its record's number, and the line that makes it. Entries are in the arena. */
export interface PlacedSet {
  readonly name: string;
  readonly slot: number;
  readonly create: string;
  /** Of a list of sets. */
  readonly members?: readonly ListMember[];
}

/** Of an `apply`: pinned as `generations/<number>` for each generation that it made. */
export interface GenerationDocument {
  readonly build: string;
  /** Milliseconds since 1970. */
  readonly appliedMs: number;
  readonly rulesets: readonly { readonly family: Family; readonly text: string }[];
  /** The rules that programs and tables were made of; absent: these. What was pinned has none: edits lie in the arena. */
  readonly loaded?: GenerationDocument['rulesets'];
  readonly hooks: readonly HookName[];
  readonly devices: readonly string[];
  readonly cgroup?: string;
  readonly fragments?: FragmentStrategy;
  readonly manner: Manner;
  readonly hz: number;
  readonly allowPartial: boolean;
  /** Absent: by how many rules there are. */
  readonly strategy?: StrategyName;
  /** What the action chain could do to marks when it was compiled. */
  readonly knownMarks: MarkChanges;
  readonly chains: readonly ChainCounters[];
  /** Chains that some attach point runs as code, by family, table and name with blanks between. */
  readonly coded: readonly string[];
  readonly counters: number;
  /** True when counters came from the file: those of the generation before are not carried over. */
  readonly ownCounters: boolean;
  readonly logs: readonly LogPoint[];
  readonly programs: readonly PlacedProgram[];
  readonly aids: KernelAids;
  /** Rules that were replaced by stricter ones (--allow-partial). */
  readonly weakened: readonly string[];
  /** Things to tell the user. */
  readonly notices: readonly string[];
  readonly members: readonly Member[];
  readonly sets?: readonly PlacedSet[];
}

/** Writes a document. The caller pins and closes it. */
export function writeDocument(value: object): BpfMap {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  const map = BpfMap.create({
    type: 'BPF_MAP_TYPE_ARRAY',
    name: 'sluice_doc',
    keySize: 4,
    valueSize: bytes.length,
    maxEntries: 1,
  });
  try {
    map.update(0, bytes);
    map.freeze();
    return map;
  } catch (error) {
    map.close();
    throw error;
  }
}

/** Reads the document pinned at `path`; `undefined` when there is none. @throws {PolicyError} `HOST_POLICY_BROKEN` */
export function readDocument<T extends object>(path: string): T | undefined {
  const map = openPinnedMap(path);
  if (map === undefined) return undefined;
  try {
    const bytes = map.lookup(0);
    return JSON.parse(new TextDecoder().decode(bytes)) as T;
  } catch (cause) {
    throw new PolicyError(
      'HOST_POLICY_BROKEN',
      `${path} holds no document of Sluice`,
      'remove the policy and apply it again',
      { cause },
    );
  } finally {
    map.close();
  }
}
