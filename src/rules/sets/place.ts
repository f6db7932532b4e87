/** Sets that rules may name: which there are, and whether they can be looked up. */
import type { SetReference } from '../text/set-reference.ts';
import type { SetDefinition } from './type.ts';

/** A set where programs can find it. */
export interface SetPlace {
  readonly definition: SetDefinition;
  /** Number of its record in the arena. */
  readonly slot: number;
}

/** Places for sets that lie one behind the other. */
export function placesInOrder(
  sets: readonly { readonly definition: SetDefinition }[] = [],
): Map<string, SetPlace> {
  return new Map(sets.map(({ definition }, slot) => [definition.name, { definition, slot }]));
}

/** Why a rule that names the set cannot run; `undefined` when it can. */
export function whySetFails(
  { name }: Pick<SetReference, 'name'>,
  sets: ReadonlyMap<string, { readonly definition: SetDefinition }>,
): string | undefined {
  const definition = sets.get(name)?.definition;
  if (definition === undefined) return `no set is named ${name}`;
  if (definition.type.method !== 'list') return undefined;
  const { timeoutSec, counters, skbinfo, members } = definition;
  if (timeoutSec !== undefined || counters || skbinfo)
    return `set ${name} is a list whose members have timeouts, counters or skbinfo of their own, which are only read and printed: create it without them`;
  return members.map((member) => whySetFails(member, sets)).find((why) => why !== undefined);
}
