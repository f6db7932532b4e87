/**
 * A change of live rules as tables: fresh rules get counters, the tables and a note of what changed are written beside what
 * runs (strategies/classifier/edit.ts). Nothing is in force yet.
 */
import {
  type ArenaBytes,
  type AttachPoint,
  type CallsCache,
  type ChainEdit,
  editTables,
  keyOf,
  type Piece,
  type TableEdit,
  takeCounters,
  type WantedChain,
  type Written,
} from '../../compile/index.ts';
import type { IrRule } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import { unionOfAids } from './aids.ts';
import { type EditPlan, LoadWhole } from './editplan.ts';
import { type ChainNote, type EditNote, encodeNote, type NotedPiece } from './note.ts';
import type { ChainState, RuleState } from './rulestate.ts';

/** A namespace's generation that is to be edited. */
export interface EditedRoot {
  readonly cookie: bigint;
  readonly root: number;
  /** Of the generation that is made. */
  readonly number: number;
}

export interface EditRequestParts {
  readonly arena: ArenaBytes;
  /** They have the same rules. */
  readonly roots: readonly EditedRoot[];
  /** Attach points that have a program. */
  readonly points: readonly AttachPoint[];
  readonly hz: number;
  readonly state: RuleState;
  readonly plan: EditPlan;
  readonly cache?: CallsCache | undefined;
}

export interface WrittenEdit {
  /** In the order of the roots. */
  readonly edits: readonly TableEdit[];
  /** What `state` is to be told once they are in force. */
  readonly note: EditNote;
  /** Rules that have come in. */
  readonly fresh: readonly IrRule[];
}

/** @throws {LoadWhole} */
export function writeEdit(parts: EditRequestParts): WrittenEdit {
  return new EditWriter(parts).write();
}

/** A changed chain, with the counters of all its rules. */
interface NumberedChain {
  readonly note: ChainNote;
  readonly edit: ChainEdit;
  readonly counters: readonly number[];
  readonly builtIn: boolean;
}

class EditWriter {
  readonly #parts: EditRequestParts;
  readonly #state: RuleState;
  readonly #plan: EditPlan;
  readonly #appliedMs = Date.now();
  readonly #members: EditNote['members'];
  /** Keys before, by keys of chains that get other names. */
  readonly #before: ReadonlyMap<string, string>;
  readonly #removed: ReadonlySet<string>;
  readonly #changed = new Map<string, NumberedChain>();

  constructor(parts: EditRequestParts) {
    const { state, plan, roots } = parts;
    this.#parts = parts;
    this.#state = state;
    this.#plan = plan;
    this.#members = roots.map(({ cookie, number }) => [String(cookie), number]);
    this.#before = new Map(
      plan.renamed.map(({ family, table, chain, to }) => [
        keyOf(family, table, to),
        keyOf(family, table, chain),
      ]),
    );
    this.#removed = new Set([...plan.removed, ...this.#before.values()]);
  }

  write(): WrittenEdit {
    this.#number();
    const notes: EditNote[] = [];
    const edits = this.#parts.roots.map((root) => this.#write(root, notes));
    const [note, ...others] = notes;
    if (others.some((other) => JSON.stringify(other) !== JSON.stringify(note)))
      throw new LoadWhole('namespaces have different tables');
    const fresh = [...this.#changed.values()].flatMap(({ edit: { pieces } }) =>
      pieces.flatMap((piece) => ('rule' in piece ? [piece.rule] : [])),
    );
    return { edits, note: note!, fresh };
  }

  /** Every fresh rule and policy gets its counter, the same in every namespace. */
  #number(): void {
    const { chains, rule } = this.#plan;
    let count = 0;
    for (const { pieces, policy } of chains) {
      count += policy === undefined ? 0 : 1;
      for (const piece of pieces) if ('line' in piece) count += 1;
    }
    const { arena, roots } = this.#parts;
    const taken = new Set(roots.map(({ root }) => takeCounters(arena, root, count)));
    const [first] = taken;
    if (taken.size !== 1) throw new LoadWhole('namespaces have different counters');
    if (first === undefined) throw new LoadWhole('the spare counters are used up');
    let counter = first;
    for (const { family, table, chain, added, pieces, policy } of chains) {
      const key = keyOf(family, table, chain);
      const known = added ? undefined : this.#stateOf(key);
      if (!added && known === undefined) throw new LoadWhole(`chain ${chain} is not known`);
      if (known?.coded === true) throw new LoadWhole(`chain ${chain} is code`);
      let counters: number[] = [];
      const edited: Piece[] = [];
      const noted: NotedPiece[] = [];
      for (const piece of pieces) {
        if ('line' in piece) {
          edited.push({ rule: rule(family, table, chain, counters.length), counter });
          noted.push([piece.line, counter]);
          counters.push(counter);
          counter += 1;
        } else {
          edited.push(piece);
          noted.push([piece.from, piece.to]);
          counters = counters.concat(known!.counters.slice(piece.from, piece.to));
        }
      }
      const verdict = policy === 'DROP' ? 'drop' : 'accept';
      this.#changed.set(key, {
        edit: {
          family,
          table,
          chain,
          pieces: edited,
          ...(policy === undefined ? {} : { policy: { verdict, counter } }),
        },
        note: {
          family,
          table,
          chain,
          ...(added ? { added } : {}),
          pieces: noted,
          ...(policy === undefined ? {} : { policy: { verdict: policy, counter } }),
        },
        counters,
        builtIn: known !== undefined && known.policy !== '-',
      });
      if (policy !== undefined) counter += 1;
    }
  }

  /** A chain as it is, by the key that it shall have. */
  #stateOf(key: string): ChainState | undefined {
    const before = this.#before.get(key);
    if (before === undefined && this.#removed.has(key)) return undefined;
    return this.#state.chains.get(before ?? key);
  }

  #write({ root, number }: EditedRoot, notes: EditNote[]): TableEdit {
    const { arena, points, hz, cache } = this.#parts;
    const edit = editTables(
      arena,
      {
        root,
        number: BigInt(number),
        edits: [...this.#changed.values()].map(({ edit: one }) => one),
        numberOf: (key) => (this.#changed.get(key)?.note.added ? 0 : (this.#stateOf(key)?.number ?? 0)),
        keyOf: (own) => this.#keyOf(own),
        chain: (family, table, chain) => this.#chain(family, table, chain),
        points,
        logs: this.#state.logs.length,
        hz,
        note: (written) => {
          const note = this.#note(written);
          notes.push(note);
          return encodeNote(note);
        },
      },
      cache,
    );
    if ('reason' in edit) throw new LoadWhole(edit.reason);
    return edit;
  }

  #keyOf(number: number): string | undefined {
    const [before] = [...this.#state.chains].find(([, chain]) => chain.number === number) ?? [];
    const [after] = [...this.#before].find(([, own]) => own === before) ?? [before];
    return after;
  }

  #chain(family: Family, table: string, chain: string): WantedChain | undefined {
    const key = keyOf(family, table, chain);
    const changed = this.#changed.get(key);
    const known = changed === undefined ? this.#stateOf(key) : undefined;
    const counters = changed?.counters ?? known?.counters;
    if (counters === undefined) return undefined;
    return {
      builtIn: changed?.builtIn ?? known?.policy !== '-',
      count: counters.length,
      rule: (index) => this.#plan.rule(family, table, chain, index),
      counter: (index) => counters[index]!,
    };
  }

  #note(written: Written): EditNote {
    const { renamed, removed, asksConntrack } = this.#plan;
    const { marks, rejects, logs } = written;
    const wanted = {
      conntrack: asksConntrack,
      marks,
      rejects: { ipv4: [...rejects.ipv4], ipv6: [...rejects.ipv6] },
    };
    const before = this.#state.aids;
    const after = unionOfAids([before, { ...before, ...wanted }]);
    return {
      appliedMs: this.#appliedMs,
      ...(renamed.length > 0 ? { renamed } : {}),
      ...(removed.length > 0 ? { removed } : {}),
      chains: [...this.#changed.values()].map(({ note }) => note),
      ...(written.numbers.size > 0 ? { numbers: [...written.numbers] } : {}),
      ...(logs.length > 0 ? { logs } : {}),
      ...(JSON.stringify(after) === JSON.stringify(before) ? {} : { aids: wanted }),
      members: this.#members,
    };
  }
}
