/** Edits of live tables. */
import fc from 'fast-check';
import { writeHeaderChecksum } from '../classbench.ts';
import { type Outcome, ruleOf, runChanges, type Step, stepOf } from '../edit-cases.ts';
import { type TableName, USER } from '../edited.ts';
import { sample } from '../mistake-cases.ts';
import type { Subject } from '../mistakes.ts';
import type { MistakeArea } from './area.ts';

const RUNS = 3;
const STEPS = 20;
/** Tables, how many rules they have at first, whether some are about sets, and how many come in at once, where not a few. */
const TABLES: readonly (readonly [table: TableName, size: number, sets: boolean, atOnce?: number])[] = [
  ['filter', 2, false],
  ['filter', 40, true],
  ['filter', 40, false, 24],
  ['mangle', 40, false, 24],
];

/** Runs of changes, so many for each kind of table, and a chain whose parts do not lie in their order. */
export function editSubjects(runs: number = RUNS): Subject[] {
  return [movedSubject(), ...randomSubjects(runs)];
}

function randomSubjects(runs: number): Subject[] {
  return TABLES.flatMap(([table, size, sets, atOnce]) => {
    const rulesOf = (first: number, count: number): fc.Arbitrary<string[]> =>
      fc.array(ruleOf(table, sets, first), { minLength: count, maxLength: count });
    const first = rulesOf(0, size);
    const few = stepOf(table, sets);
    const step =
      atOnce === undefined
        ? few
        : // Rules that any chain may have.
          fc.tuple(few, rulesOf(USER, atOnce)).map(([one, texts]) => ({ ...one, texts }));
    const steps = fc.array(step, { minLength: STEPS, maxLength: STEPS });
    return sample(fc.tuple(first, steps), runs).map(([rules, changes]) => subjectOf(table, rules, changes));
  });
}

function subjectOf(table: TableName, rules: readonly string[], changes: readonly Step[]): Subject {
  let right: string | undefined;
  return {
    write: () => {
      const outcome: Outcome = { edits: 0, reasons: [] };
      const difference = runChanges(table, rules, changes, outcome);
      // Whatever is not made in place is right, too: that as much is says that the edits are.
      const made = JSON.stringify(outcome);
      right ??= made;
      const found = difference ?? (made === right ? undefined : `${made} for ${right}`);
      return () => found;
    },
  };
}

/** Who returns finds the part that the jump is in behind one whose records lie behind its own. */
function movedSubject(): Subject {
  const filling = Array.from(
    { length: 50 },
    (_, at) => `-s 10.0.0.${at + 1}/32 -p tcp -m tcp --dport ${at + 1}`,
  );
  const front = ['-p udp -j @0', ...filling.slice(0, 9), '-p udp'];
  const [step] = sample(stepOf('filter', false), 1);
  const packets = [17, 6].map((protocol) => {
    const addresses = [192, 1, 1, 1, 192, 2, 2, 2];
    const bytes = Uint8Array.of(
      0x45,
      0,
      0,
      28,
      0,
      1,
      0,
      0,
      64,
      protocol,
      0,
      0,
      ...addresses,
      0,
      1,
      0,
      7,
      0,
      8,
      0,
      0,
    );
    writeHeaderChecksum(bytes);
    return bytes;
  });
  const rules = [...front, ...filling.slice(9), '-p udp -m ttl --ttl-gt 1'];
  // Eleven rules go behind the forty next ones.
  return subjectOf('filter', rules, [
    { ...step!, chain: 'INPUT', kind: 'move', at: 0, to: 50, texts: [], packets },
  ]);
}

export const EDITS: MistakeArea = {
  name: 'edits of tables',
  emitters: /^strategies\/classifier\/(edit|live|joining)\./,
  subjects: editSubjects,
  share: 12,
  equivalent: {
    'strategies/classifier/edit.ts edit u32 4': 'a number more that no chain has',
    'strategies/classifier/edit.ts #writeRun u32 2':
      'any number but 0 says that there are vectors; without any, all rules are asked one after the other',
  },
  unseen: {},
};
