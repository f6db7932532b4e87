/** Whether rules look sets up: the code for it is long, and left out where none does. */
import type { IrRule, Predicate } from '../../../ir/index.ts';

export function lookUpSets(rules: readonly IrRule[]): boolean {
  return rules.some(({ predicates }) => predicates.some(looksUp));
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
