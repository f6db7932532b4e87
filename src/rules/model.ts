import type { Family } from '../net/index.ts';
import type { MatchExtension, TargetExtension } from './extension.ts';

/** A stretch of one source line. `line` and `column` count from 1; `length` in UTF-16 code units. */
export interface Span {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
}

/** Packets and bytes (IP total length). bigint because the kernel counts in 64 bits. */
export interface Counters {
  packets: bigint;
  bytes: bigint;
}

export type TableName = 'raw' | 'mangle' | 'nat' | 'filter' | 'security';

/** One family's rules: the tables in the order of the file. */
export interface Ruleset {
  readonly family: Family;
  readonly tables: Table[];
}

export interface Table {
  readonly name: TableName;
  /** In the order of their declaration, built-in chains included. */
  readonly chains: Chain[];
  readonly span: Span;
}

export interface Chain {
  readonly name: string;
  /** ACCEPT or DROP for built-in chains, `undefined` for user chains (printed as `-`). */
  policy: 'ACCEPT' | 'DROP' | undefined;
  counters: Counters;
  readonly rules: Rule[];
  readonly span: Span;
}

/** An address and a mask of the same length; the mask need not be contiguous. */
export interface MaskedAddress {
  readonly address: Uint8Array;
  readonly mask: Uint8Array;
  readonly negate: boolean;
}

/** A device name as struct ipt_ip keeps it: at most 15 bytes; `wildcard` for a trailing "+". */
export interface DeviceName {
  readonly name: string;
  readonly wildcard: boolean;
  readonly negate: boolean;
}

/** The conditions of struct ipt_ip / ip6t_ip6, absent when the option was not given. */
export interface BaseMatch {
  source?: MaskedAddress;
  destination?: MaskedAddress;
  inDevice?: DeviceName;
  outDevice?: DeviceName;
  /** IP protocol number; 0 with `negate: false` is never stored (it means all). */
  protocol?: { readonly number: number; readonly negate: boolean };
  /** `-f`: IPv4 second and further fragments. */
  fragment?: { readonly negate: boolean };
}

/** One `-m NAME …` of a rule with its typed options. */
export interface MatchUse<S = unknown> {
  readonly extension: MatchExtension<S>;
  /** The name as canonical output prints it after `-m`. */
  readonly name: string;
  readonly state: S;
  readonly span: Span;
}

/** The `-j` or `-g` of a rule. */
export type TargetUse =
  | {
      readonly kind: 'verdict';
      readonly verdict: 'ACCEPT' | 'DROP' | 'RETURN' | 'QUEUE';
      readonly span: Span;
    }
  | { readonly kind: 'chain'; readonly chain: string; readonly goto: boolean; readonly span: Span }
  | {
      readonly kind: 'extension';
      readonly extension: TargetExtension;
      readonly name: string;
      readonly state: unknown;
      readonly span: Span;
    };

export interface Rule {
  readonly base: BaseMatch;
  readonly matches: readonly MatchUse[];
  /** Absent: count and go on. */
  readonly target?: TargetUse;
  readonly counters: Counters;
  readonly span: Span;
}
