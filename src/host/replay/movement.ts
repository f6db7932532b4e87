/**
 * Which rules a program's counters say a packet hit, in order.
 *
 * A program leaves nothing behind but counters and a verdict. The order of the rules is that of the chains, so one walk
 * of the table explains the counters: the walk of ipt_do_table() in which exactly the rules match whose counters moved,
 * as often as they moved. A chain that is entered more than once leaves a choice; the first walk that explains
 * everything is taken.
 */
import type { IrChain, IrRule, IrTable } from '../../ir/index.ts';

export interface ExplainedWalk {
  /** Rules hit, in order. */
  readonly matched: readonly IrRule[];
  readonly ending:
    | { readonly kind: 'rule' | 'hotdrop'; readonly rule: IrRule }
    | { readonly kind: 'policy'; readonly chain: IrChain };
  readonly verdict: 'ACCEPT' | 'DROP';
}

export interface Movement {
  /** By how many packets a counter of the table moved. */
  readonly moved: (counter: number) => number;
  /** The program dropped the packet because a header could not be read; it does not say at which rule. */
  readonly unread: boolean;
  /** Whether this rule could not read the packet, by the reference; asked where `unread`. */
  readonly cannotRead: (rule: IrRule) => boolean;
}

/** Thrown when no walk explains the counters: a defect of the program that moved them. */
export class UnexplainedCountersError extends Error {
  constructor(table: IrTable, chain: string) {
    super(`no walk of ${table.family} ${table.table} ${chain} explains how its counters moved`);
    this.name = 'UnexplainedCountersError';
  }
}

interface Position {
  readonly chain: IrChain;
  readonly next: number;
  readonly callers: Position | undefined;
}

/** A rule that matched here, and might as well have matched at a later visit. */
interface Choice {
  readonly position: Position;
  readonly matched: number;
}

const MAXIMUM_STEPS = 10_000_000;

/** @throws {UnexplainedCountersError} */
export function explainMovement(table: IrTable, base: IrChain, movement: Movement): ExplainedWalk {
  const left = new Map<number, number>();
  let total = 0;
  for (const { policy, rules } of table.chains.values()) {
    for (const { counter } of policy === undefined ? rules : [policy, ...rules]) {
      const packets = movement.moved(counter);
      if (packets > 0) left.set(counter, packets);
      total += packets;
    }
  }
  const matched: IrRule[] = [];
  const choices: Choice[] = [];
  /** Where a packet that could not be read was lost at the latest, when no rule owns up to it. */
  let unread: IrRule | undefined;
  let position: Position = { chain: base, next: 0, callers: undefined };

  const take = (counter: number): boolean => {
    const packets = left.get(counter) ?? 0;
    if (packets === 0) return false;
    left.set(counter, packets - 1);
    total--;
    return true;
  };
  const giveBack = (counter: number): void => {
    left.set(counter, left.get(counter)! + 1);
    total++;
  };
  /** The last choice the other way; false when there is none. */
  const reconsider = (): boolean => {
    const choice = choices.pop();
    if (choice === undefined) return false;
    for (const { counter } of matched.splice(choice.matched)) giveBack(counter);
    const { chain, next, callers } = choice.position;
    position = { chain, next: next + 1, callers };
    return true;
  };
  const fail = (): ExplainedWalk => {
    if (movement.unread && unread !== undefined)
      return { matched, ending: { kind: 'hotdrop', rule: unread }, verdict: 'DROP' };
    throw new UnexplainedCountersError(table, base.name);
  };

  for (let step = 0; step < MAXIMUM_STEPS; step++) {
    const { chain, next, callers }: Position = position;
    const rule: IrRule | undefined = chain.rules[next];
    const action = rule === undefined ? ({ kind: 'return' } as const) : rule.action;
    if (rule !== undefined) {
      if (!take(rule.counter)) {
        if (movement.unread && total === 0) {
          if (movement.cannotRead(rule))
            return { matched, ending: { kind: 'hotdrop', rule }, verdict: 'DROP' };
          unread ??= rule;
        }
        position = { chain, next: next + 1, callers };
        continue;
      }
      if (chain !== base) choices.push({ position, matched: matched.length });
      matched.push(rule);
      // A match can drop a packet that the rule still counts.
      if (movement.unread && total === 0 && movement.cannotRead(rule))
        return { matched, ending: { kind: 'hotdrop', rule }, verdict: 'DROP' };
    }
    switch (action.kind) {
      case 'accept':
      case 'drop':
      case 'reject': {
        const verdict = action.kind === 'accept' ? 'ACCEPT' : 'DROP';
        if (total === 0) return { matched, ending: { kind: 'rule', rule: rule! }, verdict };
        if (!reconsider()) return fail();
        break;
      }
      case 'jump': {
        const back = { chain, next: next + 1, callers };
        position = { chain: table.chains.get(action.chain)!, next: 0, callers: back };
        break;
      }
      case 'goto':
        position = { chain: table.chains.get(action.chain)!, next: 0, callers };
        break;
      case 'return': {
        if (callers !== undefined) {
          position = callers;
          break;
        }
        const policy = base.policy!;
        if (total === 1 && take(policy.counter)) {
          const verdict = policy.verdict === 'accept' ? 'ACCEPT' : 'DROP';
          return { matched, ending: { kind: 'policy', chain: base }, verdict };
        }
        if (!reconsider()) return fail();
        break;
      }
      default:
        position = { chain, next: next + 1, callers };
    }
  }
  return fail();
}
