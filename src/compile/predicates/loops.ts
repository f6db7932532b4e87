/** Which rules have loops in their code, that the kernel's verifier goes through anew for each way into their chain. */
import type { IrRule, Predicate } from '../../ir/index.ts';

/** True when the code of the rule's conditions or of its action has a loop (emit/loop.ts). */
export function ruleLoops({ predicates, action }: IrRule): boolean {
  return action.kind === 'set' || predicates.some(predicateLoops);
}

function predicateLoops(predicate: Predicate): boolean {
  switch (predicate.kind) {
    case 'limit':
    case 'sctp-chunks':
    case 'tcp-option':
    case 'address-type':
    case 'set':
      return true;
    case 'statistic':
      return predicate.mode.kind === 'nth';
    case 'all':
    case 'any':
      return predicate.of.some(predicateLoops);
    case 'not':
      return predicateLoops(predicate.of);
    default:
      return false;
  }
}
