/** The commit: what has been written beside what runs is put in force (docs/arena.md). */
import { GATE_OPEN } from '../../compile/index.ts';
import { waitForGracePeriod } from '../../kernel/index.ts';
import { endCommit } from './repair.ts';
import type { PolicyStore } from './store.ts';
import type { Target } from './target.ts';

/** A generation that has been written for a namespace. */
export interface Committed {
  readonly target: Pick<Target, 'cookie'>;
  readonly number: number;
  /** Pointer to it. */
  readonly root: number;
}

/** Told the name of each step before it is done; tests end the process there. */
export type StepListener = (step: string) => void;

/**
 * Puts the generations in force, all by one store: that of the record in one namespace; in several, every record first
 * names the new generation behind a closed gate, and then the gate opens. Returns how long the store took, in microseconds.
 */
export function commit(
  store: PolicyStore,
  plans: readonly Committed[],
  { confirmSeconds, notes }: { readonly confirmSeconds: number | undefined; readonly notes: boolean },
  step: StepListener,
): number {
  const changes = plans.map(({ target, root }) => ({ root, record: store.records.find(target.cookie)! }));
  const together = changes.length > 1;
  step('note packets under way');
  for (const { record } of changes) record.inFlight = record.running;
  // Where a packet meets the policy once only there is nothing to note, and so nothing to wait for.
  if (notes) waitForGracePeriod();
  const gate = together || confirmSeconds !== undefined ? store.records.freeGate() : 0;
  if (together) {
    store.records.setGate(gate, 0n);
    for (const { root, record } of changes) {
      step(`prepare ${record.cookie}`);
      record.commit(root, record.confirmed, gate);
    }
  }
  step('commit');
  const closesNs =
    confirmSeconds === undefined
      ? GATE_OPEN
      : process.hrtime.bigint() + BigInt(confirmSeconds) * 1_000_000_000n;
  const started = process.hrtime.bigint();
  if (gate !== 0) store.records.setGate(gate, closesNs);
  if (!together) {
    const { root, record } = changes[0]!;
    record.commit(root, gate === 0 ? 0 : record.confirmed, gate);
  }
  const commitUs = Number(process.hrtime.bigint() - started) / 1000;
  step('committed');
  if (confirmSeconds === undefined) for (const { root, record } of changes) record.commit(root);
  step('wait for packets under way');
  waitForGracePeriod();
  step('carry counters');
  for (const { record } of changes) endCommit(store, record);
  return commitUs;
}
