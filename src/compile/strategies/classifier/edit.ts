/**
 * Changes of rules in live tables: a new root beside the old one, which shares with it all but the chains that change.
 * Nothing that a packet of the old root can reach is written to; storing the new root in the record is the commit.
 *
 * A changed chain is its old parts, cut where rules come in or go away, and new parts between them (layout.ts). A few
 * rules are a part that is asked rule by rule; more get vectors of their own, and with them the neighbours that are not
 * much longer, so that a chain that grows rule by rule has few parts and each rule is built into vectors a few times only.
 * What a packet pays for the parts is bounded ({@link MAX_PARTS_COST}): beyond that the chain is built anew as one part.
 * When the room or the spare state words are used up, or a change needs another program, the reason is told, and the
 * rules have to be loaded whole.
 */
import type { IrRule, Predicate } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import {
  alignUp,
  COUNTER_SIZE,
  GENERATION_HEADER_SIZE,
  Generation,
  ROOT_ALIGNMENT,
  STATE_SIZE,
} from '../../arena/layout.ts';
import { type AttachPoint, entryIndex } from '../../attach.ts';
import { HandedActions, type MarkChanges } from '../../emit/emission.ts';
import { type LogPoint, LogPoints } from '../../emit/logpoint.ts';
import { StateWords } from '../../emit/state.ts';
import { obstacles } from '../../support.ts';
import { type ChainNumbering, ChainWriter } from './chains.ts';
import {
  joinRuns,
  type KeptRecord,
  type Piece,
  partsCost,
  type Run,
  splitParts,
  wholeRun,
} from './joining.ts';
import {
  CHAIN_SIZE,
  Chain,
  ChainKind,
  ENTRY_SIZE,
  Entry,
  MAX_CHAIN_RULES,
  MAX_DEPTH,
  PolicyVerdict,
  RULE_RECORD_SHIFT,
  RULE_RECORD_SIZE,
  RuleRecord,
  TABLES_HEADER_SIZE,
  TablesHeader,
  Way,
} from './layout.ts';
import { type ArenaBytes, type LiveEntry, LiveTables } from './live.ts';
import { SET_FEATURES, type SetUse, setUse } from './setuse.ts';
import { needsOf, whyNoNode, writeMarks } from './tables.ts';
import { ImageWriter } from './writer.ts';

/** What the parts of a chain may cost a packet, in units of about 30 ns. */
export const MAX_PARTS_COST = 96;

/** How one chain shall be. */
export interface ChainEdit {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** All its rules, in their order: runs of those that it has, and others. */
  readonly pieces: readonly Piece[];
  /** Where it changes: with a counter of its own. */
  readonly policy?: { readonly verdict: 'accept' | 'drop'; readonly counter: number };
}

/** A chain as it shall be, rule by rule. */
export interface WantedChain {
  readonly builtIn: boolean;
  readonly count: number;
  rule(index: number): IrRule;
  /** Number of the rule's counter in the generation. */
  counter(index: number): number;
}

export interface EditRequest {
  /** Pointer to the generation that is to be changed, and number of the new one. */
  readonly root: number;
  readonly number: bigint;
  readonly edits: readonly ChainEdit[];
  /** Number of a chain in the tables, by family, table and name with blanks between; 0: they do not have it. */
  readonly numberOf: (key: string) => number;
  /** The key of the chain that has a number. */
  readonly keyOf: (number: number) => string | undefined;
  /** Any chain as it shall be; `undefined`: there is none of that name. */
  readonly chain: (family: Family, table: string, chain: string) => WantedChain | undefined;
  /** Attach points that have a program. */
  readonly points: readonly AttachPoint[];
  /** How many log points there are. */
  readonly logs: number;
  readonly hz: number;
  /** The text that is kept with the generation and says what changed; asked for once all is decided. */
  readonly note?: (written: Written) => Uint8Array;
}

/** What a change brought beside records. */
export interface Written {
  /** Numbers of chains that have come into the tables, by key. */
  readonly numbers: ReadonlyMap<string, number>;
  /** Log points behind those that there were. */
  readonly logs: readonly LogPoint[];
  /** What the action chain has to be able to do from now on, for rules that have come in. */
  readonly marks: MarkChanges;
  readonly rejects: Readonly<Record<Family, readonly number[]>>;
}

export interface TableEdit extends Written {
  /** Pointer to the new generation. */
  readonly root: number;
  /** Attach points whose packets can meet the difference. */
  readonly points: readonly AttachPoint[];
}

/** Why a change is not made in place. */
export interface NotEdited {
  readonly reason: string;
}

/** Thrown within, told by {@link editTables}. */
class CannotEdit extends Error {}

/** Chains called by each chain, by the pointer to its first part: what lies in an extent does not change. */
export type CallsCache = Map<number, ReadonlySet<number>>;

/** Writes a generation with the changes into the room beside the one that it is made of. It is in force when its root is stored. */
export function editTables(
  memory: ArenaBytes,
  request: EditRequest,
  cache: CallsCache = new Map(),
): TableEdit | NotEdited {
  try {
    return new Editor(memory, request, cache).edit();
  } catch (error) {
    if (error instanceof CannotEdit) return { reason: error.message };
    throw error;
  }
}

interface EditedChain {
  readonly edit: ChainEdit;
  readonly number: number;
  readonly wanted: WantedChain;
  readonly fresh: readonly IrRule[];
}

class Editor {
  readonly #request: EditRequest;
  readonly #live: LiveTables;
  readonly #cache: CallsCache;
  readonly #image = new ImageWriter();
  readonly #state: StateWords;
  readonly #logs: LogPoints;
  readonly #handed: HandedActions;
  readonly #writers = new Map<Family, ChainWriter>();
  readonly #extent: number;
  /** Numbers of chains that come in, by key. */
  readonly #fresh = new Map<string, number>();
  /** Of chains whose calls are others than before. */
  readonly #calls = new Map<number, ReadonlySet<number>>();

  constructor(memory: ArenaBytes, request: EditRequest, cache: CallsCache) {
    this.#request = request;
    this.#cache = cache;
    this.#live = new LiveTables(memory, request.root);
    if (this.#live.header === 0) throw new CannotEdit('rules are code');
    this.#extent = this.#live.u32(request.root + Generation.extent);
    this.#state = new StateWords(this.#live.u32(this.#extent + Generation.stateNext));
    this.#logs = new LogPoints(request.logs);
    this.#handed = new HandedActions(this.#live.marks);
  }

  edit(): TableEdit {
    const { root, number } = this.#request;
    const live = this.#live;
    const image = this.#image;
    image.reserve(GENERATION_HEADER_SIZE);
    image.copy(0, live.copy(root, GENERATION_HEADER_SIZE));
    image.u32(Generation.number, Number(BigInt.asUintN(32, number)));
    image.u32(Generation.number + 4, Number(number >> 32n));
    image.u32(Generation.before, root);
    const header = image.reserve(TABLES_HEADER_SIZE, 64);
    image.copy(header, live.copy(live.header, TABLES_HEADER_SIZE));
    image.pointer(Generation.tables, header);

    const chains = this.#collect();
    const calling = this.#calls.size > 0;
    const entries = live.entries().map((entry) => {
      const reached = this.#reached(entry, (chain) => this.#callsOf(chain));
      const before = calling ? this.#reached(entry, (chain) => this.#liveCalls(chain)) : reached;
      return { entry, reached, before };
    });
    if (calling) this.#checkDepth(entries.map(({ entry }) => entry));
    const count = live.chainCount + this.#fresh.size;
    const places = image.reserve(count * 4);
    image.copy(places, live.copy(live.chains, live.chainCount * 4));
    image.pointer(header + TablesHeader.chains, places);
    image.u32(header + TablesHeader.chainCount, count);
    for (const chain of chains) image.pointer(places + chain.number * 4, this.#writeParts(chain));
    const touched: AttachPoint[] = [];
    for (const { entry, reached, before } of entries) {
      const own = chains.filter((chain) => reached.has(chain.number) || before.has(chain.number));
      const fresh = own.filter((chain) => reached.has(chain.number)).flatMap((chain) => chain.fresh);
      for (const chain of reached) if (!before.has(chain)) fresh.push(...this.#rulesOf(chain, own));
      if (own.length > 0) touched.push(this.#checkRules(fresh, entry));
      this.#writeEntry(header, entry, fresh);
    }
    writeMarks(image, header, this.#handed.marks);
    const written: Written = {
      numbers: this.#fresh,
      logs: this.#logs.list,
      marks: this.#handed.marks,
      rejects: { ipv4: this.#handed.rejects('ipv4'), ipv6: this.#handed.rejects('ipv6') },
    };
    const edited = this.#put(written);
    const tables = new LiveTables(live.memory, edited);
    for (const { number: own } of chains) this.#cache.set(tables.firstPart(own), this.#callsOf(own));
    return { ...written, root: edited, points: touched };
  }

  /** The chains that are written: those that change and that packets come to, and those that they come to from now on. */
  #collect(): EditedChain[] {
    const found = new Map<string, EditedChain>();
    const { edits, chain: chainOf } = this.#request;
    for (const edit of edits) {
      const key = keyOf(edit.family, edit.table, edit.chain);
      const wanted = chainOf(edit.family, edit.table, edit.chain)!;
      const number = this.#numberOf(key);
      if (number !== 0) found.set(key, this.#chain(edit, number, wanted));
      else if (wanted.builtIn) throw new CannotEdit(`no program comes to chain ${edit.chain}`);
    }
    for (const { edit, fresh } of found.values()) {
      const { family, table } = edit;
      for (const { action } of fresh) {
        if (action.kind !== 'jump' && action.kind !== 'goto') continue;
        const key = keyOf(family, table, action.chain);
        if (found.has(key) || this.#numberOf(key) !== 0) continue;
        const wanted = chainOf(family, table, action.chain);
        if (wanted === undefined) throw new CannotEdit(`there is no chain ${action.chain}`);
        const number = this.#live.chainCount + this.#fresh.size;
        this.#fresh.set(key, number);
        const pieces = Array.from({ length: wanted.count }, (_, index) => ({
          rule: wanted.rule(index),
          counter: wanted.counter(index),
        }));
        found.set(key, this.#chain({ family, table, chain: action.chain, pieces }, number, wanted));
      }
    }
    for (const chain of found.values()) this.#noteCalls(chain);
    return [...found.values()];
  }

  /** Fresh rules are checked for what tables cannot take up at any hook. */
  #chain(edit: ChainEdit, number: number, wanted: WantedChain): EditedChain {
    const fresh = edit.pieces.flatMap((piece) => ('rule' in piece ? [piece.rule] : []));
    if (wanted.count > MAX_CHAIN_RULES) throw new CannotEdit(`chain ${edit.chain} has too many rules`);
    for (const rule of fresh) {
      const why = whyNotEdited(rule);
      if (why !== undefined) throw new CannotEdit(`a rule for chain ${edit.chain}: ${why}`);
    }
    return { edit, number, wanted, fresh };
  }

  /** What the chain calls from now on, if that is not what it called. */
  #noteCalls({ edit, number, fresh }: EditedChain): void {
    const old = this.#liveCalls(number);
    const added = fresh.flatMap(({ action }) =>
      action.kind === 'jump' || action.kind === 'goto'
        ? [this.#numberOf(keyOf(edit.family, edit.table, action.chain))]
        : [],
    );
    const parts = this.#isFresh(number) ? [] : this.#live.parts(number);
    const kept = edit.pieces.flatMap((piece) => ('rule' in piece ? [] : [piece]));
    const remain = old.size === 0 ? old : this.#live.remainingCalls(parts, kept, old);
    const calls = new Set([...remain, ...added]);
    if (calls.size !== old.size || [...calls].some((chain) => !old.has(chain)))
      this.#calls.set(number, calls);
  }

  #numberOf(key: string): number {
    return this.#fresh.get(key) ?? this.#request.numberOf(key);
  }

  #isFresh(number: number): boolean {
    return number >= this.#live.chainCount;
  }

  #callsOf(chain: number): ReadonlySet<number> {
    return this.#calls.get(chain) ?? this.#liveCalls(chain);
  }

  /** As it is in the live tables. */
  #liveCalls(chain: number): ReadonlySet<number> {
    if (this.#isFresh(chain)) return NONE;
    const pointer = this.#live.firstPart(chain);
    let calls = this.#cache.get(pointer);
    if (calls === undefined) {
      calls = this.#live.calls(chain);
      this.#cache.set(pointer, calls);
    }
    return calls;
  }

  /** Chains that an entry's packets can come to. */
  #reached(entry: LiveEntry, callsOf: (chain: number) => ReadonlySet<number>): Set<number> {
    const reached = new Set(this.#live.roots(entry));
    for (const chain of reached) for (const called of callsOf(chain)) reached.add(called);
    return reached;
  }

  #checkDepth(entries: readonly LiveEntry[]): void {
    const depths = new Map<number, number>();
    const open = new Set<number>();
    // Chains behind a chain, one after the other. Real rulesets are not deeper than what tables allow.
    const depthOf = (chain: number): number => {
      const calls = this.#callsOf(chain);
      if (calls.size === 0) return 0;
      const known = depths.get(chain);
      if (known !== undefined) return known;
      if (open.has(chain)) throw new CannotEdit('chains may call each other in a circle');
      if (open.size > MAX_DEPTH)
        throw new CannotEdit(`chains may call each other more than ${MAX_DEPTH} deep`);
      open.add(chain);
      let depth = 0;
      for (const called of calls) depth = Math.max(depth, 1 + depthOf(called));
      open.delete(chain);
      depths.set(chain, depth);
      return depth;
    };
    for (const entry of entries) {
      if (this.#live.roots(entry).some((chain) => depthOf(chain) > MAX_DEPTH))
        throw new CannotEdit(`chains may call each other more than ${MAX_DEPTH} deep`);
    }
  }

  /** All rules of a chain that an entry's packets come to for the first time; of those that are written the fresh ones are known. */
  #rulesOf(number: number, written: readonly EditedChain[]): IrRule[] {
    const own = written.find((chain) => chain.number === number);
    const [family, table, name] = (this.#request.keyOf(number) ?? '').split(' ');
    const wanted = own?.wanted ?? this.#request.chain(family as Family, table!, name!);
    if (wanted === undefined) throw new CannotEdit('a chain of the tables has no name');
    return Array.from({ length: wanted.count }, (_, index) => wanted.rule(index));
  }

  /** The entry's attach point, whose program can do what these rules say. */
  #checkRules(rules: readonly IrRule[], entry: LiveEntry): AttachPoint {
    const point = this.#request.points.find((one) => entryIndex(one) === entry.place);
    if (point === undefined) throw new CannotEdit('an attach point is not known');
    const use = setUse(rules);
    if ((SET_FEATURES[use] & ~this.#live.u32(entry.pointer + Entry.features)) !== 0)
      throw new CannotEdit(NO_SETS[use]);
    for (const rule of rules) {
      const [obstacle] = obstacles(rule, point, entry.family);
      if (obstacle !== undefined)
        throw new CannotEdit(`a rule for chain ${rule.source.chain} cannot run at every hook`);
      if (rule.action.kind === 'reject' && point.flavour !== 'netfilter')
        throw new CannotEdit('tables make no answers here');
    }
    return point;
  }

  #writer(family: Family): ChainWriter {
    const known = this.#writers.get(family);
    if (known !== undefined) return known;
    const { hz } = this.#request;
    const parts = { state: this.#state, logs: this.#logs, hz, handed: this.#handed };
    const numbers: ChainNumbering = { of: (...place) => this.#numberOf(keyOf(...place)) };
    const writer = new ChainWriter(this.#image, family, parts, numbers);
    this.#writers.set(family, writer);
    return writer;
  }

  /** Offset of the chain's first part. */
  #writeParts(chain: EditedChain): number {
    const { edit, number } = chain;
    const image = this.#image;
    const live = this.#live;
    const old = this.#isFresh(number) ? [] : live.parts(number);
    let runs = joinRuns(splitParts(old, edit.pieces));
    if (partsCost(runs) > MAX_PARTS_COST) runs = [wholeRun(runs)];
    const offset = image.reserve(Math.max(1, runs.length) * CHAIN_SIZE, 64);
    for (const [index, run] of runs.entries()) {
      const at = offset + index * CHAIN_SIZE;
      if (run.kind === 'kept') {
        image.copy(at, live.partBytes(run.part));
        image.u32(at + Chain.first, run.first);
        image.u32(at + Chain.count, run.count);
      } else this.#writeRun(at, run, chain);
      if (index + 1 < runs.length) image.pointer(at + Chain.next, at + CHAIN_SIZE);
      else image.u32(at + Chain.next, 0);
    }
    const { policy } = edit;
    const first = old[0]?.pointer;
    if (policy !== undefined) {
      image.u32(offset + Chain.policy, PolicyVerdict[policy.verdict]);
      image.u32(offset + Chain.policyCounter, policy.counter * COUNTER_SIZE);
    } else if (first !== undefined) {
      image.u32(offset + Chain.policy, live.u32(first + Chain.policy));
      image.u32(offset + Chain.policyCounter, live.u32(first + Chain.policyCounter));
    }
    return offset;
  }

  /** A part of its own records: what was written for a rule that is there already is copied. */
  #writeRun(at: number, run: Run & { kind: 'rules' }, { edit, number, wanted }: EditedChain): void {
    const image = this.#image;
    const { sources, vectors, start } = run;
    const writer = this.#writer(edit.family);
    const rules = vectors ? sources.map((_, index) => wanted.rule(start + index)) : [];
    const answered = vectors ? writer.writeVectors(at, rules) : undefined;
    const records = image.reserve(sources.length * RULE_RECORD_SIZE, RULE_RECORD_SIZE);
    const place = { table: edit.table, chain: edit.chain, number };
    for (const [index, source] of sources.entries()) {
      const record = records + index * RULE_RECORD_SIZE;
      const nothingLeft = answered?.[index] === true;
      if ('rule' in source) writer.writeRecord(place, source.rule, source.counter, record, nothingLeft);
      else this.#copyRecord(record, source, nothingLeft);
    }
    image.pointer(at + Chain.rules, records);
    image.u32(at + Chain.count, sources.length);
    image.u32(at + Chain.kind, answered === undefined ? ChainKind.linear : ChainKind.vectors);
  }

  #copyRecord(at: number, source: KeptRecord, answered: boolean): void {
    const live = this.#live;
    const record = source.rules + (source.index << RULE_RECORD_SHIFT);
    this.#image.copy(at, live.copy(record, RULE_RECORD_SIZE));
    this.#image.u32(at + RuleRecord.rest, answered ? Way.holds : live.u32(record + RuleRecord.all));
  }

  /** The entry anew where it has to find more for the fresh rules. */
  #writeEntry(header: number, entry: LiveEntry, fresh: readonly IrRule[]): void {
    const image = this.#image;
    const copy = this.#live.copy(entry.pointer, ENTRY_SIZE);
    const view = new DataView(copy.buffer);
    const before = view.getUint32(Entry.needs, true);
    const needs = before | needsOf(fresh);
    view.setUint32(Entry.needs, needs, true);
    let changed = needs !== before;
    // All entries of a family know the headers of all its rules: any chain may be called from any of them later.
    for (const [protocol, bytes] of this.#writers.get(entry.family)?.headerBytes.entries() ?? []) {
      if (copy[Entry.headerBytes + protocol]! >= bytes) continue;
      copy[Entry.headerBytes + protocol] = bytes;
      changed = true;
    }
    if (!changed) return;
    const at = image.reserve(ENTRY_SIZE, 64);
    image.copy(at, copy);
    const place = entry.place * 2 + (entry.family === 'ipv6' ? 1 : 0);
    image.pointer(header + TablesHeader.entries + place * 4, at);
  }

  /** Puts the image into the extent's room. */
  #put(written: Written): number {
    const live = this.#live;
    const extent = this.#extent;
    const image = this.#image;
    const note = this.#request.note?.(written) ?? new Uint8Array();
    const words = new Uint8Array(alignUp(note.length, 4));
    words.set(note);
    const at = image.reserve(words.length);
    image.copy(at, words);
    image.pointer(Generation.note, at);
    image.u32(Generation.noteSize, note.length);
    const built = image.finish();
    const root = alignUp(live.u32(extent + Generation.roomNext), ROOT_ALIGNMENT);
    if (root + built.size > live.u32(extent + Generation.roomEnd))
      throw new CannotEdit('the room for edits is used up');
    const { initial } = this.#state;
    const stateNext = live.u32(extent + Generation.stateNext);
    if (stateNext + initial.length > live.u32(extent + Generation.stateCount))
      throw new CannotEdit('the state words are used up');
    const state = live.u32(extent + Generation.state);
    for (const [index, value] of initial.entries())
      live.setU64(state + (stateNext + index) * STATE_SIZE, value);
    live.setU32(extent + Generation.stateNext, stateNext + initial.length);
    live.setU32(extent + Generation.roomNext, root + built.size);
    live.write(root, built.build(root));
    live.setU32(extent + Generation.lastEdit, root);
    return root;
  }
}

const NONE: ReadonlySet<number> = new Set();
const NO_SETS: Readonly<Record<SetUse, string>> = {
  none: '',
  'looked-up': 'the program looks no sets up, which the one for rules with sets does',
  changed: 'the program changes no sets, which the one for rules that do does',
};

/** Takes counters of the extent that have not been in use yet; `undefined`: there are not so many left. */
export function takeCounters(memory: ArenaBytes, root: number, count: number): number | undefined {
  const live = new LiveTables(memory, root);
  const extent = live.u32(root + Generation.extent);
  const next = live.u32(extent + Generation.counterNext);
  if (next + count > live.u32(extent + Generation.counterCount)) return undefined;
  live.setU32(extent + Generation.counterNext, next + count);
  return next;
}

export function keyOf(family: Family, table: string, chain: string): string {
  return `${family} ${table} ${chain}`;
}

function whyNotEdited({ predicates }: IrRule): string | undefined {
  return predicates.map((predicate: Predicate) => whyNoNode(predicate)).find((why) => why !== undefined);
}
