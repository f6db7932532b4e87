/**
 * What an edit of live rules changed, as it lies in the arena beside the generation that it made (docs/arena.md): the rules
 * of that generation are those that were loaded whole, changed by every note since. So an edit writes no document.
 */
import type { LogPoint, MarkChanges } from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';

/** Rules of a chain as they shall be: those from one place to another as it is, or a line with its counter. */
export type NotedPiece = readonly [from: number, to: number] | readonly [line: string, counter: number];

export interface ChainNote {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** The chain was not there. */
  readonly added?: true;
  readonly pieces: readonly NotedPiece[];
  readonly policy?: { readonly verdict: 'ACCEPT' | 'DROP'; readonly counter: number };
}

export interface ChainRename {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly to: string;
}

export interface EditNote {
  readonly appliedMs: number;
  /** In this order: chains get other names, go away, change or come. */
  readonly renamed?: readonly ChainRename[];
  /** Keys. */
  readonly removed?: readonly string[];
  readonly chains: readonly ChainNote[];
  /** Chains that have come into the tables, by key. */
  readonly numbers?: readonly (readonly [key: string, number: number])[];
  /** LOG rules that have come. */
  readonly logs?: readonly LogPoint[];
  /** What the kernel's own code does for rules that have come. */
  readonly aids?: {
    readonly conntrack: boolean;
    readonly marks: MarkChanges;
    readonly rejects: Readonly<Record<Family, readonly number[]>>;
  };
  /** Numbers of the generations of all namespaces that were changed together, by netns cookie. */
  readonly members: readonly (readonly [cookie: string, number: number])[];
}

export function encodeNote(note: EditNote): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(note));
}

export function decodeNote(bytes: Uint8Array): EditNote {
  return JSON.parse(new TextDecoder().decode(bytes)) as EditNote;
}

/** A line of the rules as it reads once the chain has its other name. */
export function afterRename(line: string, { chain, to }: ChainRename): string {
  const own = line.startsWith(`-A ${chain} `) || line === `-A ${chain}`;
  const named = own ? `-A ${to}${line.slice(3 + chain.length)}` : line;
  return named.endsWith(` -j ${chain}`) || named.endsWith(` -g ${chain}`)
    ? `${named.slice(0, -chain.length)}${to}`
    : named;
}
