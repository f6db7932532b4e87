/**
 * Which rules a program's counters say a packet hit, in order.
 *
 * A program leaves nothing behind but counters and a verdict. The order of the rules is that of the chains, so one walk
 * of the table explains the counters: the walk of ipt_do_table() in which exactly the rules match whose counters moved,
 * as often as they moved. A packet that met several hooks before the counters were read has walked the table once for each.
 * A chain that is entered more than once leaves a choice; the first walks that explain everything are taken.
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
  /** Which of the walks. */
  readonly walk: number;
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

/**
 * The walks of a table by the base chains that the packet met, in that order.
 * @throws {UnexplainedCountersError}
 */
export function explainMovement(
  table: IrTable,
  bases: readonly IrChain[],
  movement: Movement,
): readonly ExplainedWalk[] {
  const left = new Map<number, number>();
  let total = 0;
  for (const { policy, rules } of table.chains.values()) {
    for (const { counter } of policy === undefined ? rules : [policy, ...rules]) {
      const packets = movement.moved(counter);
      if (packets > 0) left.set(counter, packets);
      total += packets;
    }
  }
  const lastWalk = bases.length - 1;
  const matched: IrRule[] = [];
  const choices: Choice[] = [];
  /** How each walk but the last ended, and how many rules had matched by then. */
  const ended: { readonly ending: ExplainedWalk['ending']; readonly matched: number }[] = [];
  /** Where a packet that could not be read was lost at the latest, when no rule owns up to it. */
  let unread: IrRule | undefined;
  let position: Position = { walk: 0, chain: bases[0]!, next: 0, callers: undefined };

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
  /** Back to where this many rules had matched in this walk: the policies that were reached since count again. */
  const unwind = (walk: number, count: number): void => {
    for (const { counter } of matched.splice(count)) giveBack(counter);
    for (const { ending } of ended.splice(walk))
      if (ending.kind === 'policy') giveBack(ending.chain.policy!.counter);
  };
  /** The last choice the other way; false when there is none. */
  const reconsider = (): boolean => {
    const choice = choices.pop();
    if (choice === undefined) return false;
    const { walk, chain, next, callers } = choice.position;
    unwind(walk, choice.matched);
    position = { walk, chain, next: next + 1, callers };
    return true;
  };
  const finish = (ending: ExplainedWalk['ending'], verdict: ExplainedWalk['verdict']): ExplainedWalk[] => {
    const from = (walk: number): number => ended[walk - 1]?.matched ?? 0;
    return [
      ...ended.map(
        ({ ending: before, matched: to }, walk): ExplainedWalk => ({
          matched: matched.slice(from(walk), to),
          ending: before,
          verdict: 'ACCEPT',
        }),
      ),
      { matched: matched.slice(from(ended.length)), ending, verdict },
    ];
  };
  const fail = (): ExplainedWalk[] => {
    if (movement.unread && unread !== undefined) return finish({ kind: 'hotdrop', rule: unread }, 'DROP');
    throw new UnexplainedCountersError(table, bases.map(({ name }) => name).join(', '));
  };
  /** A verdict: the end of everything, the beginning of the next walk, or a wrong choice before it. */
  const end = (
    ending: ExplainedWalk['ending'],
    verdict: ExplainedWalk['verdict'],
  ): readonly ExplainedWalk[] | undefined => {
    const { walk } = position;
    if (total === 0 && (walk === lastWalk || verdict === 'DROP')) return finish(ending, verdict);
    if (walk < lastWalk && verdict === 'ACCEPT') {
      ended.push({ ending, matched: matched.length });
      position = { walk: walk + 1, chain: bases[walk + 1]!, next: 0, callers: undefined };
      return undefined;
    }
    if (ending.kind === 'policy') giveBack(ending.chain.policy!.counter);
    return reconsider() ? undefined : fail();
  };

  for (let step = 0; step < MAXIMUM_STEPS; step++) {
    const { walk, chain, next, callers }: Position = position;
    const base = bases[walk]!;
    const rule: IrRule | undefined = chain.rules[next];
    const action = rule === undefined ? ({ kind: 'return' } as const) : rule.action;
    const mayBeUnread = movement.unread && walk === lastWalk;
    if (rule !== undefined) {
      if (!take(rule.counter)) {
        if (mayBeUnread && total === 0) {
          if (movement.cannotRead(rule)) return finish({ kind: 'hotdrop', rule }, 'DROP');
          unread ??= rule;
        }
        position = { walk, chain, next: next + 1, callers };
        continue;
      }
      if (chain !== base || isMetAgain(bases, walk)) choices.push({ position, matched: matched.length });
      matched.push(rule);
      // A match can drop a packet that the rule still counts.
      if (mayBeUnread && total === 0 && movement.cannotRead(rule))
        return finish({ kind: 'hotdrop', rule }, 'DROP');
    }
    switch (action.kind) {
      case 'accept':
      case 'drop':
      case 'reject': {
        const verdict = action.kind === 'accept' ? 'ACCEPT' : 'DROP';
        const walks = end({ kind: 'rule', rule: rule! }, verdict);
        if (walks !== undefined) return walks;
        break;
      }
      case 'jump': {
        const back = { walk, chain, next: next + 1, callers };
        position = { walk, chain: table.chains.get(action.chain)!, next: 0, callers: back };
        break;
      }
      case 'goto':
        position = { walk, chain: table.chains.get(action.chain)!, next: 0, callers };
        break;
      case 'return': {
        if (callers !== undefined) {
          position = callers;
          break;
        }
        const policy = base.policy!;
        if (take(policy.counter)) {
          const verdict = policy.verdict === 'accept' ? 'ACCEPT' : 'DROP';
          const walks = end({ kind: 'policy', chain: base }, verdict);
          if (walks !== undefined) return walks;
          break;
        }
        if (!reconsider()) return fail();
        break;
      }
      default:
        position = { walk, chain, next: next + 1, callers };
    }
  }
  return fail();
}

/** A base chain that comes again later: its rules may have matched then. */
function isMetAgain(bases: readonly IrChain[], walk: number): boolean {
  return bases.includes(bases[walk]!, walk + 1);
}
