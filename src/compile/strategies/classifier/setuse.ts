/** What the rules of a program do with sets: the code for it is long, and left out where no rule asks for it. */
import type { IrRule, Predicate } from '../../../ir/index.ts';
import { ProgramFeature } from './layout.ts';

export type SetUse = 'none' | 'looked-up' | 'changed';

/** {@link ProgramFeature} bits of a program made for rules that use sets so. */
export const SET_FEATURES: Readonly<Record<SetUse, number>> = {
  none: 0,
  'looked-up': ProgramFeature.looksUpSets,
  changed: ProgramFeature.looksUpSets | ProgramFeature.changesSets,
};

export function setUse(rules: readonly IrRule[]): SetUse {
  if (rules.some(({ action }) => action.kind === 'set')) return 'changed';
  return rules.some(({ predicates }) => predicates.some(looksUp)) ? 'looked-up' : 'none';
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
