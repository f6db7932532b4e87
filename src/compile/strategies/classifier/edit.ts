/**
 * Changes of some rules in live tables: a new root beside the old one, which shares with it all but the chains that change.
 * Nothing that a packet of the old root can reach is written to; storing the new root in the record is the commit.
 *
 * A changed chain is its old parts, cut where rules come in or go away, and new parts between them (layout.ts). A few
 * rules are a part that is asked rule by rule; more get vectors of their own, and with them the neighbours that are not
 * much longer, so that a chain that grows rule by rule has few parts and each rule is built into vectors a few times only.
 * What a packet pays for the parts is bounded ({@link MAX_PARTS_COST}). When that, the room or the spare counters are used
 * up, or a change needs more than tables, the reason is told, and the rules have to be loaded whole.
 */
import type { Action, IrRule, Predicate } from '../../../ir/index.ts';
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
import { HandedActions } from '../../emit/emission.ts';
import { LogPoints } from '../../emit/logpoint.ts';
import { StateWords } from '../../emit/state.ts';
import { obstacles } from '../../support.ts';
import { ChainNumbers, ChainWriter } from './chains.ts';
import { joinRuns, type Piece, partsCost, type Run, type Source, splitParts } from './joining.ts';
import {
  CHAIN_SIZE,
  Chain,
  ChainKind,
  ENTRY_SIZE,
  Entry,
  MAX_DEPTH,
  PolicyVerdict,
  RULE_RECORD_SHIFT,
  RULE_RECORD_SIZE,
  RuleRecord,
  TABLES_HEADER_SIZE,
  TablesHeader,
} from './layout.ts';
import { type ArenaBytes, type LiveEntry, LiveTables } from './live.ts';
import { actionNeed, predicateNeed, whyNoNode } from './tables.ts';
import { ImageWriter } from './writer.ts';

/** What the parts of a chain may cost a packet, in units of about 30 ns. */
export const MAX_PARTS_COST = 96;

/** How one chain shall be. */
export interface ChainEdit {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly builtIn: boolean;
  /** All its rules, in their order: runs of those that it has, and others. */
  readonly pieces: readonly Piece[];
  /** Where it changes: with a counter of its own. */
  readonly policy?: { readonly verdict: 'accept' | 'drop'; readonly counter: number };
}

export interface EditRequest {
  /** Pointer to the generation that is to be changed, and number of the new one. */
  readonly root: number;
  readonly number: bigint;
  readonly edits: readonly ChainEdit[];
  /** Numbers of the chains in the tables, by family, table and name with blanks between. */
  readonly numbers: ReadonlyMap<string, number>;
  /** Attach points that have a program. */
  readonly points: readonly AttachPoint[];
  /** Ways to reject that the action chain knows. */
  readonly rejects: Readonly<Record<Family, readonly number[]>>;
  readonly hz: number;
  /** The rule at a place of a chain as it shall be. */
  readonly ruleAt: (edit: ChainEdit, index: number) => IrRule;
}

export interface TableEdit {
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

/** Chains called by each chain, by the pointer to its first part: what lies in an arena does not change. */
export type CallsCache = Map<number, Set<number>>;

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
  /** 0: no packet comes to it. */
  readonly number: number;
  readonly fresh: readonly IrRule[];
  readonly calls: Set<number>;
}

class Editor {
  readonly #request: EditRequest;
  readonly #live: LiveTables;
  readonly #cache: CallsCache;
  readonly #image = new ImageWriter();
  readonly #state: StateWords;
  readonly #handed = new HandedActions();
  readonly #writers = new Map<Family, ChainWriter>();
  readonly #calls = new Map<number, Set<number>>();
  readonly #extent: number;

  constructor(memory: ArenaBytes, request: EditRequest, cache: CallsCache) {
    this.#request = request;
    this.#cache = cache;
    this.#live = new LiveTables(memory, request.root);
    if (this.#live.header === 0) throw new CannotEdit('rules are code');
    this.#extent = this.#live.u32(request.root + Generation.extent);
    this.#state = new StateWords(this.#live.u32(this.#extent + Generation.stateNext));
  }

  edit(): TableEdit {
    const { root, number, edits } = this.#request;
    const live = this.#live;
    const image = this.#image;
    image.reserve(GENERATION_HEADER_SIZE);
    image.copy(0, live.copy(root, GENERATION_HEADER_SIZE));
    image.u32(Generation.number, Number(BigInt.asUintN(32, number)));
    image.u32(Generation.number + 4, Number(number >> 32n));
    const header = image.reserve(TABLES_HEADER_SIZE, 64);
    image.copy(header, live.copy(live.header, TABLES_HEADER_SIZE));
    image.pointer(Generation.tables, header);

    const chains = edits.map((edit) => this.#chain(edit)).filter(({ number: own }) => own !== 0);
    const entries = live.entries().map((entry) => ({ entry, reached: this.#reached(entry) }));
    // Also without calls among the fresh rules: one that goes away may have hidden some.
    this.#checkDepth(entries.map(({ entry }) => entry));
    const count = live.chainCount;
    const places = image.reserve(count * 4);
    image.copy(places, live.copy(live.chains, count * 4));
    image.pointer(header + TablesHeader.chains, places);
    for (const chain of chains) image.pointer(places + chain.number * 4, this.#writeParts(chain));
    const touched: AttachPoint[] = [];
    for (const { entry, reached } of entries) {
      const own = chains.filter((chain) => reached.has(chain.number));
      if (own.length === 0) continue;
      const point = this.#request.points.find((one) => entryIndex(one) === entry.place);
      if (point === undefined) throw new CannotEdit('an attach point is not known');
      touched.push(point);
      this.#checkRules(own, point, entry.family);
      this.#writeEntry(header, entry, own);
    }
    for (const family of ['ipv4', 'ipv6'] as const) {
      const known = this.#request.rejects[family];
      if (this.#handed.rejects(family).some((way) => !known.includes(way)))
        throw new CannotEdit('the action chain does not know this way to reject');
    }
    const written = this.#put();
    for (const { number: own, calls } of chains) {
      const tables = new LiveTables(this.#live.memory, written);
      this.#cache.set(tables.firstPart(own), calls);
    }
    return { root: written, points: touched };
  }

  /** What changes of a chain; fresh rules are checked for what tables alone cannot take up. */
  #chain(edit: ChainEdit): EditedChain {
    const number = this.#request.numbers.get(keyOf(edit.family, edit.table, edit.chain)) ?? 0;
    const fresh = edit.pieces.flatMap((piece) => ('rule' in piece ? [piece.rule] : []));
    const calls = new Set(number === 0 ? [] : this.#callsOf(number));
    const chain = { edit, number, fresh, calls };
    if (number === 0 && edit.builtIn) throw new CannotEdit(`no program comes to chain ${edit.chain}`);
    if (number === 0) return chain;
    for (const { action, predicates } of fresh) {
      const why = KNOWN_ACTIONS.has(action.kind)
        ? predicates.map(whyNotEdited).find((reason) => reason !== undefined)
        : `${action.kind} needs more than tables`;
      if (why !== undefined) throw new CannotEdit(`a rule for chain ${edit.chain}: ${why}`);
      if (action.kind !== 'jump' && action.kind !== 'goto') continue;
      const called = this.#request.numbers.get(keyOf(edit.family, edit.table, action.chain)) ?? 0;
      if (called === 0) throw new CannotEdit(`chain ${action.chain} is not in the tables`);
      calls.add(called);
    }
    this.#calls.set(number, calls);
    return chain;
  }

  #callsOf(chain: number): Set<number> {
    const known = this.#calls.get(chain);
    if (known !== undefined) return known;
    const pointer = this.#live.firstPart(chain);
    let calls = this.#cache.get(pointer);
    if (calls === undefined) {
      calls = this.#live.calls(chain);
      this.#cache.set(pointer, calls);
    }
    this.#calls.set(chain, calls);
    return calls;
  }

  /** Chains that an entry's packets can come to. */
  #reached(entry: LiveEntry): Set<number> {
    const reached = new Set(this.#live.roots(entry));
    for (const chain of reached) for (const called of this.#callsOf(chain)) reached.add(called);
    return reached;
  }

  #checkDepth(entries: readonly LiveEntry[]): void {
    const depths = new Map<number, number>();
    const open = new Set<number>();
    // Chains behind a chain, one after the other. Real rulesets are not deeper than what tables allow.
    const depthOf = (chain: number): number => {
      const known = depths.get(chain);
      if (known !== undefined) return known;
      if (open.has(chain)) throw new CannotEdit('chains may call each other in a circle');
      if (open.size > MAX_DEPTH)
        throw new CannotEdit(`chains may call each other more than ${MAX_DEPTH} deep`);
      open.add(chain);
      const depth = Math.max(0, ...[...this.#callsOf(chain)].map((called) => 1 + depthOf(called)));
      open.delete(chain);
      depths.set(chain, depth);
      return depth;
    };
    for (const entry of entries) {
      if (this.#live.roots(entry).some((chain) => depthOf(chain) > MAX_DEPTH))
        throw new CannotEdit(`chains may call each other more than ${MAX_DEPTH} deep`);
    }
  }

  #checkRules(chains: readonly EditedChain[], point: AttachPoint, family: Family): void {
    for (const { edit, fresh } of chains) {
      for (const rule of fresh) {
        if (obstacles(rule, point, family).length > 0)
          throw new CannotEdit(`a rule for chain ${edit.chain} cannot run at every hook`);
        if (rule.action.kind === 'reject' && point.flavour !== 'netfilter')
          throw new CannotEdit('tables make no answers here');
      }
    }
  }

  #writer(family: Family): ChainWriter {
    const known = this.#writers.get(family);
    if (known !== undefined) return known;
    const { numbers, hz } = this.#request;
    const parts = { state: this.#state, logs: new LogPoints(), hz, handed: this.#handed };
    const writer = new ChainWriter(this.#image, family, parts, new ChainNumbers(numbers));
    this.#writers.set(family, writer);
    return writer;
  }

  /** Offset of the chain's first part. */
  #writeParts(chain: EditedChain): number {
    const { edit, number } = chain;
    const image = this.#image;
    const live = this.#live;
    const old = live.parts(number);
    const runs = joinRuns(splitParts(old, edit.pieces));
    if (partsCost(runs) > MAX_PARTS_COST) throw new CannotEdit(`chain ${edit.chain} has many parts by now`);
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
    const first = old[0]!.pointer;
    const { policy } = edit;
    image.u32(
      offset + Chain.policy,
      policy === undefined ? live.u32(first + Chain.policy) : PolicyVerdict[policy.verdict],
    );
    image.u32(
      offset + Chain.policyCounter,
      policy === undefined ? live.u32(first + Chain.policyCounter) : policy.counter * COUNTER_SIZE,
    );
    return offset;
  }

  /** A part of its own records: what was written for a rule that is there already is copied. */
  #writeRun(at: number, run: Run & { kind: 'rules' }, { edit, number }: EditedChain): void {
    const image = this.#image;
    const { sources, vectors, start } = run;
    const writer = this.#writer(edit.family);
    const records = image.reserve(sources.length * RULE_RECORD_SIZE, RULE_RECORD_SIZE);
    for (const [index, source] of sources.entries())
      this.#writeRecord(records + index * RULE_RECORD_SIZE, source, edit, number, writer);
    image.pointer(at + Chain.rules, records);
    image.u32(at + Chain.count, sources.length);
    const built =
      vectors &&
      writer.writeVectors(
        at,
        sources.map((_, index) => this.#request.ruleAt(edit, start + index)),
      );
    image.u32(at + Chain.kind, built ? ChainKind.vectors : ChainKind.linear);
  }

  #writeRecord(at: number, source: Source, edit: ChainEdit, number: number, writer: ChainWriter): void {
    if ('rule' in source) {
      writer.writeRecord({ table: edit.table, chain: edit.chain, number }, source.rule, source.counter, at);
      return;
    }
    const live = this.#live;
    const record = source.rules + (source.index << RULE_RECORD_SHIFT);
    this.#image.copy(at, live.copy(record, RULE_RECORD_SIZE));
    this.#image.u32(at + RuleRecord.rest, live.u32(record + RuleRecord.all));
  }

  /** The entry anew where it has to find more for the fresh rules. */
  #writeEntry(header: number, entry: LiveEntry, chains: readonly EditedChain[]): void {
    const image = this.#image;
    const copy = this.#live.copy(entry.pointer, ENTRY_SIZE);
    const view = new DataView(copy.buffer);
    let needs = view.getUint32(Entry.needs, true);
    for (const rule of chains.flatMap(({ fresh }) => fresh)) {
      needs |= actionNeed(rule.action);
      for (const predicate of rule.predicates) needs |= predicateNeed(predicate);
    }
    let changed = needs !== view.getUint32(Entry.needs, true);
    view.setUint32(Entry.needs, needs, true);
    for (const [protocol, bytes] of this.#writer(entry.family).headerBytes.entries()) {
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
  #put(): number {
    const live = this.#live;
    const extent = this.#extent;
    const built = this.#image.finish();
    const root = alignUp(live.u32(extent + Generation.roomNext), ROOT_ALIGNMENT);
    if (root + built.size > live.u32(extent + Generation.roomEnd))
      throw new CannotEdit('the room for edits is used up');
    const { initial } = this.#state;
    const stateNext = live.u32(extent + Generation.stateNext);
    if (stateNext + initial.length > live.u32(extent + Generation.stateCount))
      throw new CannotEdit('the state words are used up');
    const words = live.u32(extent + Generation.state);
    for (const [index, value] of initial.entries())
      live.setU64(words + (stateNext + index) * STATE_SIZE, value);
    live.setU32(extent + Generation.stateNext, stateNext + initial.length);
    live.setU32(extent + Generation.roomNext, root + built.size);
    live.write(root, built.build(root));
    return root;
  }
}

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

/** Sets are looked up by programs that know which of their parts rules ask for. */
function whyNotEdited(predicate: Predicate): string | undefined {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.map(whyNotEdited).find((reason) => reason !== undefined);
    case 'not':
      return whyNotEdited(predicate.of);
    case 'set':
      return 'sets need more than tables';
    default:
      return whyNoNode(predicate);
  }
}

/** LOG points, mark operations and sets are of the generation as a whole. */
const KNOWN_ACTIONS: ReadonlySet<Action['kind']> = new Set([
  'continue',
  'accept',
  'drop',
  'return',
  'jump',
  'goto',
  'reject',
] as const);
