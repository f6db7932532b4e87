/** A change of live rules, worked out: what becomes of each chain, and what its rules say. */
import type { IrRule } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { ChainRename } from './note.ts';

/** Rules from one place to another of the chain as it is, or a rule by its line. */
export type PlannedPiece = { readonly from: number; readonly to: number } | { readonly line: string };

export interface ChainPlan {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** The chain is not there yet. */
  readonly added: boolean;
  /** All its rules as they shall be. */
  readonly pieces: readonly PlannedPiece[];
  /** Where it changes. */
  readonly policy?: 'ACCEPT' | 'DROP';
}

export interface EditPlan {
  /** In this order: chains get other names, go away, change or come. */
  readonly renamed: readonly ChainRename[];
  /** Keys. */
  readonly removed: readonly string[];
  readonly chains: readonly ChainPlan[];
  /** The rule at a place of any chain as it shall be. @throws {LoadWhole} when it cannot be compiled as it is */
  readonly rule: (family: Family, table: string, chain: string, index: number) => IrRule;
  /** Fresh rules ask for connections. */
  readonly asksConntrack: boolean;
}

/** Thrown, and told as the reason, when a change is not made in place: rules have to be loaded whole. */
export class LoadWhole extends Error {}

/** A list of `count` rules that stays as it is: of none there are no pieces, nor is there a chain to take them from. */
export function unchanged(count: number): readonly PlannedPiece[] {
  return count === 0 ? [] : [{ from: 0, to: count }];
}

/** Rules put in and taken out, of chains that have `count` rules. */
export function changedRules({ pieces }: ChainPlan, count: number): number {
  let fresh = 0;
  let kept = 0;
  for (const piece of pieces) {
    if ('line' in piece) fresh += 1;
    else kept += piece.to - piece.from;
  }
  return fresh + count - kept;
}
