/** Which strategy an attach point's rules get. The choice changes the cost of a packet, never its verdict. */
import type { AttachPoint } from '../attach.ts';
import type { ProgramPlan } from '../plan.ts';
import { whyNoTables } from './classifier/index.ts';
import { planCalls } from './inline/calls.ts';

/** How rules become something that runs: as code, or as tables for one program. */
export type StrategyName = 'inline' | 'classifier';

/** Rules that one program of the strategy `inline` takes, all its chains together. */
export const MAX_INLINE_RULES = 4096;
/**
 * Rules of a program up to which it is code: a packet costs the same in both forms at 130 to 300 rules
 * (docs/performance/scale.md), and code of that length is verified sooner than the program that walks tables.
 */
export const INLINE_PAYS_RULES = 200;

/** What was chosen for the rules of an attach point, and why. */
export interface StrategyChoice {
  readonly point: AttachPoint;
  readonly strategy: StrategyName;
  /** Rules that it reaches, in all its chains. */
  readonly rules: number;
  readonly reason: string;
}

export function chooseStrategy(plan: ProgramPlan, wanted: 'auto' | StrategyName): StrategyChoice {
  const { point } = plan;
  const rules = countRules(plan);
  const choice = (strategy: StrategyName, reason: string): StrategyChoice => ({
    point,
    strategy,
    rules,
    reason,
  });
  if (wanted === 'inline') return choice('inline', 'asked for');
  if (wanted === 'auto' && rules <= INLINE_PAYS_RULES) {
    return choice('inline', `code is cheaper up to ${INLINE_PAYS_RULES} rules`);
  }
  const obstacle = whyNoTables(plan);
  if (obstacle !== undefined) return choice('inline', obstacle);
  if (wanted === 'classifier') return choice('classifier', 'asked for');
  return choice('classifier', `tables are cheaper above ${INLINE_PAYS_RULES} rules`);
}

function countRules(plan: ProgramPlan): number {
  return plan.sections
    .flatMap(({ before, local, forward = [] }) => [...before, ...local, ...forward])
    .reduce((sum, { table, chain }) => sum + planCalls(table.chains, chain).rules, 0);
}
