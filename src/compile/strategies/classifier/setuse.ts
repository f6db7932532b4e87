/** What the rules of a program do with sets: the code for it is long, and left out where no rule asks for it. */
import type { IrRule, Predicate } from '../../../ir/index.ts';

export type SetUse = 'none' | 'looked-up' | 'changed';

export function setUse(rules: Iterable<IrRule>): SetUse {
  let use: SetUse = 'none';
  for (const { action, predicates } of rules) {
    if (action.kind === 'set') return 'changed';
    if (predicates.some(looksUp)) use = 'looked-up';
  }
  return use;
}

function looksUp(predicate: Predicate): boolean {
  switch (predicate.kind) {
    case 'set':
      return true;
    case 'all':
    case 'any':
      return predicate.of.some(looksUp);
    case 'not':
      return looksUp(predicate.of);
    default:
      return false;
  }
}
