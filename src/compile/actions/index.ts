/** Actions that a rule carries out itself; verdicts and jumps between chains are the strategy's. */
import { type Action, changedKeys } from '../../ir/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import type { HookEmitter } from '../hooks/hook.ts';
import type { RuleTag } from '../program.ts';
import { emitSetAction } from '../sets/change.ts';
import { setKeyNeeds } from '../sets/subject.ts';
import { emitHandedReject } from './handed.ts';
import { emitLog, logNeeds } from './log.ts';
import { emitMark } from './mark.ts';
import { emitReply, REPLY_NEEDS } from './reply/reply.ts';

/** The facts that an action reads. */
export function actionNeeds(action: Action, hook: HookEmitter): readonly Fact[] {
  switch (action.kind) {
    case 'log':
      return logNeeds(hook.provides.has('mark'));
    case 'mark':
      return ['mark'];
    case 'set':
      return changedKeys(action).flatMap(setKeyNeeds);
    case 'reject':
      return hook.answering === undefined ? [] : REPLY_NEEDS;
    default:
      return [];
  }
}

/** Before code is written: makes known what the section will hand to the action chain. */
export function announceAction(emission: Emission, action: Action): void {
  if (emission.hook.point.flavour !== 'netfilter') return;
  if (action.kind === 'reject') emission.handed.reject(emission.family, action.with);
  if (action.kind === 'mark') emission.handed.mark(action);
}

/** LOG and MARK fall through to what follows; REJECT does not come back. Uses r0..r5. */
export function emitAction(emission: Emission, action: Action, rule: RuleTag): void {
  switch (action.kind) {
    case 'log': {
      const { level, flags, prefix } = action;
      emitLog(emission, emission.logs.number({ level, flags, prefix, rule }), flags);
      break;
    }
    case 'mark':
      emitMark(emission, action.value, action.mask);
      break;
    case 'reject':
      if (emission.labels.reply === undefined) emitHandedReject(emission, action.with);
      else emitReply(emission, emission.labels.reply.label, action.with);
      break;
    case 'set':
      emitSetAction(emission, action);
      break;
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue':
    case 'jump':
    case 'goto':
      return;
  }
}
