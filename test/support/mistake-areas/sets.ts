/** Sets: looking them up, adding to them and taking from them, what entries have, and the packet's key, as code and as data. */
import { caseSubject, crowdedSubject } from '../case-subjects.ts';
import { evictingCases, farCases } from '../crowded-sets.ts';
import { sample } from '../mistake-cases.ts';
import type { Subject } from '../mistakes.ts';
import { crowdedCases, edgeCases, kinds, listCases, setCases, sideCases } from '../set-cases.ts';
import { oddCases } from '../set-edges.ts';
import type { MistakeArea } from './area.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
const OF_A_TYPE = 4;
const OF_LISTS = 8;
const CROWDED = 8;

// The machine has one CPU, and nothing comes between two of its instructions.
const MAC_RACE = 'two CPUs that give one entry a MAC address at once, which no test makes happen';
const RACE = 'two CPUs that write to one set: test/kernel/sets.test.ts';
const SWEEP = 'more than a hundred full buckets in a row, of which the last has an entry that has timed out';

function subjects(): Subject[] {
  const cases = FAMILIES.flatMap((family) => [
    ...oddCases(family),
    ...kinds(family).flatMap(([type, entries]) => sample(setCases(family, type, entries), OF_A_TYPE)),
    ...sample(listCases(family, 'asked'), OF_LISTS),
    ...sample(listCases(family, 'changed'), OF_LISTS),
    ...sample(crowdedCases(family), CROWDED),
  ]);
  const crowded = FAMILIES.flatMap((family) => [...farCases(family), ...evictingCases(family)]);
  return [
    ...crowded.flatMap((one) => {
      const strategy = one.form === 'code' ? 'inline' : 'classifier';
      return [crowdedSubject(one, strategy), ...(one.plain === true ? caseSubject(one.given, strategy) : [])];
    }),
    ...cases.flatMap(({ form, given }) => caseSubject(given, form === 'code' ? 'inline' : 'classifier')),
    ...FAMILIES.flatMap((family) => [...edgeCases(family), ...sideCases(family)]).flatMap((given) => [
      ...caseSubject(given, 'inline'),
      ...caseSubject(given, 'classifier'),
    ]),
  ];
}

export const SETS: MistakeArea = {
  name: 'sets',
  emitters:
    /^(sets\/(change|extras|find|mac|match|subject)\.|strategies\/classifier\/sets\.|prologue\/setport)/,
  subjects,
  share: 24,
  equivalent: {
    'sets/find.ts emitFind mov 1': 'a slot more is looked at, and its state says that it is another one',
    'sets/subject.ts emitSetKey store 1':
      'lengths are written when the networks before them are narrowed; the verifier wants the word written',
    'sets/find.ts emitFind sub 1': 'bit 0 is in neither of the two: they never differ by one',
    'strategies/classifier/sets.ts address and 1': 'addresses lie at even places among the facts',
    'sets/change.ts emitTakeOut mov 1':
      'without a network nobody reads lengths; the verifier wants them written',
  },
  unseen: {
    'sets/mac.ts emitComplete jump 2': MAC_RACE,
    'sets/mac.ts emitReplaceMac rsh 1': MAC_RACE,
    'sets/change.ts emitSweep store 1': SWEEP,
    'sets/change.ts emitSweep sub 1': SWEEP,
    'sets/change.ts emitNextSlot and 1': RACE,
    'sets/change.ts emitTakeOut and 1': RACE,
    'sets/change.ts emitClaim and 2': RACE,
    'sets/change.ts emitClaim add 1': RACE,
    'sets/change.ts distance rsh 1': RACE,
    'sets/change.ts distance and 1': RACE,
    'sets/change.ts emitAgree jump 1': RACE,
    'sets/change.ts emitAgree jump 2': RACE,
    'sets/change.ts emitAgree jump 3': RACE,
  },
};
