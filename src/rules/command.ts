/** What one line or one call of iptables asks for. */
import type { Counters, Rule, TableName } from './model.ts';
import type { Place } from './report.ts';

/** Commands that carry a rule; `rules` has one entry for each combination of addresses given. */
export type RuleCommand =
  | { readonly kind: 'append' | 'check' | 'delete'; readonly chain: string; readonly rules: readonly Rule[] }
  | {
      readonly kind: 'insert' | 'replace';
      readonly chain: string;
      /** From 1. */
      readonly number: number;
      readonly rules: readonly Rule[];
    };

export type ChainCommand =
  | { readonly kind: 'delete-number'; readonly chain: string; readonly number: number }
  | { readonly kind: 'new-chain'; readonly chain: string }
  | { readonly kind: 'flush' | 'delete-chain'; readonly chain: string | undefined }
  | { readonly kind: 'rename-chain'; readonly chain: string; readonly newName: string }
  | {
      readonly kind: 'policy';
      readonly chain: string;
      readonly policy: string;
      readonly counters: Counters | undefined;
    }
  | {
      readonly kind: 'zero' | 'list' | 'list-rules';
      readonly chain: string | undefined;
      readonly number: number | undefined;
    };

export type Command = RuleCommand | ChainCommand;

/** A command with the options that are about neither rule nor chain. */
export interface CommandLine {
  readonly command: Command;
  /** The chain's word, or the command's where there is none: where to show what cannot be done. */
  readonly place: Place;
  readonly table: TableName;
  readonly listing: {
    readonly numeric: boolean;
    readonly exact: boolean;
    readonly lineNumbers: boolean;
    /** How often `-v` was given. */
    readonly verbose: number;
    /** `-Z` together with `-L` or `-S`. */
    readonly zero: boolean;
  };
  /** `-w`: seconds to wait for the lock, Infinity without a number, 0 when not given. */
  readonly waitSec: number;
}
