/**
 * Carrying out a change of live rules in place (strategies/classifier/edit.ts): counters are taken, tables and a note of what
 * changed are written beside what runs, and one store puts them in force. No program is loaded, no document written, no
 * counter moved.
 */
import { type CallsCache, entryIndex } from '../../compile/index.ts';
import { ensureAids, unionOfAids } from './aids.ts';
import { commit, type StepListener } from './commit.ts';
import type { GenerationDocument } from './document.ts';
import { type EditPlan, LoadWhole } from './editplan.ts';
import { linkNames } from './links.ts';
import type { EditNote } from './note.ts';
import type { NetnsRecord } from './record.ts';
import { hasNotes } from './roles.ts';
import type { RuleState } from './rulestate.ts';
import { reserveSets } from './sets.ts';
import type { PolicyStore } from './store.ts';
import { writeEdit } from './tableedit.ts';
import type { Target } from './target.ts';

/** A namespace whose generation is to be edited. */
export interface EditPlace {
  readonly target: Pick<Target, 'cookie' | 'name' | 'inode'>;
  readonly record: NetnsRecord;
  /** Runs something in the namespace. */
  readonly inside: (use: () => void) => void;
}

export interface EditedGeneration {
  readonly target: EditPlace['target'];
  readonly number: number;
  readonly root: number;
}

export interface EditOutcome {
  readonly generations: readonly EditedGeneration[];
  /** What `state` was told. */
  readonly note: EditNote;
  readonly loadMs: number;
  readonly commitUs: number;
}

/** Whether a namespace runs what its document says, so that it can be edited. @throws {LoadWhole} */
export function checkPlace(store: PolicyStore, { record }: EditPlace, state: RuleState): void {
  if (record.gate !== 0 || record.previous !== 0 || record.inFlight !== 0)
    throw new LoadWhole('a commit waits for confirmation');
  if (store.generation(record.root).number !== state.members.get(String(record.cookie)))
    throw new LoadWhole('namespaces have different rules');
  const present = new Set(linkNames(store, record.cookie));
  const wanted = store.loadedAt(record.root)?.members.find(({ cookie }) => cookie === String(record.cookie));
  if (wanted === undefined || wanted.links.some((link) => !present.has(link)))
    throw new LoadWhole('links are missing');
}

/**
 * Edits the generations of all these places, which have the same rules: those of `state`, which is changed with them.
 * @throws {LoadWhole} when nothing has been changed
 */
export function editLive(
  store: PolicyStore,
  places: readonly EditPlace[],
  loaded: GenerationDocument,
  state: RuleState,
  plan: EditPlan,
  options: {
    readonly confirmSeconds?: number | undefined;
    readonly cache?: CallsCache;
    readonly step: StepListener;
  },
): EditOutcome {
  return new LiveEdit(store, places, loaded, state, plan, options).run();
}

class LiveEdit {
  readonly #store: PolicyStore;
  readonly #places: readonly EditPlace[];
  readonly #loaded: GenerationDocument;
  readonly #state: RuleState;
  readonly #plan: EditPlan;
  readonly #options: Parameters<typeof editLive>[5];

  constructor(...[store, places, loaded, state, plan, options]: Parameters<typeof editLive>) {
    this.#store = store;
    this.#places = places;
    this.#loaded = loaded;
    this.#state = state;
    this.#plan = plan;
    this.#options = options;
  }

  run(): EditOutcome {
    const started = performance.now();
    const { step, confirmSeconds, cache } = this.#options;
    step('edit tables');
    const points = this.#loaded.programs.map(({ point }) => point);
    const roots = this.#places.map(({ target: { cookie }, record: { root } }) => ({
      cookie,
      root,
      number: this.#store.takeNumber(),
    }));
    const { edits, note, fresh } = writeEdit({
      arena: { bytes: new Uint8Array(this.#store.arena.buffer), base: 0 },
      roots,
      points,
      hz: this.#loaded.hz,
      state: this.#state,
      plan: this.#plan,
      cache,
    });
    reserveSets(this.#store, this.#loaded.sets ?? [], fresh);
    if (note.aids !== undefined) this.#ensureAids(note.aids);
    const generations = this.#places.map(
      ({ target }, index): EditedGeneration => ({
        target,
        number: roots[index]!.number,
        root: edits[index]!.root,
      }),
    );
    const loadMs = performance.now() - started;
    const touched = new Set(edits.flatMap((edit) => edit.points.map((point) => entryIndex(point))));
    const noted = hasNotes(points);
    const alone = generations.length === 1 && confirmSeconds === undefined && (touched.size <= 1 || !noted);
    const commitUs = alone
      ? this.#storeRoot(generations[0]!.root)
      : commit(this.#store, generations, { confirmSeconds, notes: noted }, step);
    this.#state.apply(note);
    return { generations, note, loadMs, commitUs };
  }

  /**
   * A packet that meets the difference at one attach point only cannot see two generations, and neither can one that meets
   * the policy once: none has to be noted. The old generation keeps its memory until the extent is given up, so that
   * nobody has to be waited for.
   */
  #storeRoot(root: number): number {
    this.#options.step('commit');
    const started = process.hrtime.bigint();
    this.#places[0]!.record.commit(root);
    const commitUs = Number(process.hrtime.bigint() - started) / 1000;
    this.#options.step('committed');
    return commitUs;
  }

  /** What the kernel's own code has to do comes before the rules that ask for it. */
  #ensureAids(more: NonNullable<EditNote['aids']>): void {
    this.#options.step('tables of the namespaces');
    const before = this.#state.aids;
    const aids = unionOfAids([before, { ...before, ...more }]);
    for (const { inside } of this.#places) inside(() => ensureAids(this.#store, aids));
  }
}
