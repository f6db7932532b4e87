import type { Family } from '../net/index.ts';
import type { Action } from './action.ts';
import type { Predicate } from './predicate.ts';

/** A lowered rule. `counter` indexes the table's counters; `source` names the rule it came from. */
export interface IrRule {
  readonly predicates: readonly Predicate[];
  readonly action: Action;
  readonly counter: number;
  readonly source: IrSource;
}

/** Where a rule came from: table, chain and number from 1 as iptables counts; 0 for a chain's policy. */
export interface IrSource {
  readonly table: string;
  readonly chain: string;
  readonly rule: number;
}

/** A chain. Built-in chains have a policy and its counter; a user chain's end is RETURN. */
export interface IrChain {
  readonly name: string;
  readonly policy?: { readonly verdict: 'accept' | 'drop'; readonly counter: number };
  readonly rules: readonly IrRule[];
}

/** All chains of one table of one family. Counters are numbered densely from 0: rules and policies of the table. */
export interface IrTable {
  readonly family: Family;
  readonly table: string;
  readonly chains: ReadonlyMap<string, IrChain>;
  readonly counters: number;
}
