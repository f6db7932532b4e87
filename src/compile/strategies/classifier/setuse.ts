/** Whether rules look sets up: the code for it is long, and left out where none does. */
import type { IrRule, Predicate } from '../../../ir/index.ts';

export type SetUse = 'none' | 'looked-up';

export function setUse(rules: Iterable<IrRule>): SetUse {
  for (const { predicates } of rules) if (predicates.some(looksUp)) return 'looked-up';
  return 'none';
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
