/**
 * From the bytes of a table to rules. The checks on matches and targets are those of find_check_entry
 * (net/ipv4/netfilter/ip_tables.c) and xt_check_match, xt_check_target (net/netfilter/x_tables.c), in their order.
 */
import { HOOK_CHAINS, Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import { type AdmitContext, OptionError, whereOf } from '../extension.ts';
import type { BaseMatch, Chain, MatchUse, Rule, Span, Table, TableName, TargetUse } from '../model.ts';
import { isTableName } from '../tables.ts';
import { decodeBase } from './base.ts';
import {
  type CheckedEntries,
  checkEntries,
  type Entry,
  type ExtensionPlace,
  matchPlaces,
} from './entries.ts';
import { refuse, UnwrittenError, unwritten } from './errno.ts';
import {
  align8,
  CHAIN_NAME_BYTES,
  ENTRY_LAYOUTS,
  type EntryLayout,
  ERROR_TARGET,
  EXTENSION_NAME_BYTES,
  ExtensionHeader,
  fieldText,
  HOOK_COUNT,
  Invert,
  STANDARD_TARGET,
  Verdict,
} from './layout.ts';
import { type ExtensionKind, findForms, type KnownForm } from './lookup.ts';
import { type PayloadContext, readText, type SetNumbers } from './payload.ts';
import type { TableShape } from './requests.ts';

/** A table that the kernel would take. */
export interface DecodedTable {
  readonly table: Table;
  /** The entries as the kernel shows them: its own fields filled in, what it keeps to itself zero. Counters are zero. */
  readonly blob: Uint8Array<ArrayBuffer>;
  readonly shape: TableShape;
  /** Byte offset in `blob` of each entry. */
  readonly offsets: readonly number[];
  /** For {@link decodeTable}, which need not read again what a later table has again. */
  readonly entries: readonly Entry[];
  readonly read: readonly ReadRule[];
}

/** The rules of a request, with one span per entry: line is its number from 1. */
export interface TableRequest extends TableShape {
  readonly table: string;
  readonly entryCount: number;
}

const BUILTIN_BYTES: Readonly<Record<string, number>> = {
  [STANDARD_TARGET]: 4,
  [ERROR_TARGET]: CHAIN_NAME_BYTES,
};

/**
 * Reads and checks a whole table; `entries` is not changed. Rules that stand at the front or the end of `before`, too, are
 * the same objects in both tables, with the spans that they had: a change of a few rules costs little in a long table.
 * @throws {AbiError} with the kernel's errno
 */
export function decodeTable(
  entries: Uint8Array,
  request: TableRequest,
  family: Family,
  sets?: SetNumbers,
  before?: DecodedTable,
): DecodedTable {
  const layout = ENTRY_LAYOUTS[family];
  const blob = new Uint8Array(entries);
  const checked = checkEntries(blob, request, request.entryCount, layout);
  const reader = new RuleReader(blob, request.table, layout, sets);
  const comparable = before?.table.name === request.table && (before.blob.length | blob.length) % 8 === 0;
  const known = comparable ? findKnown(before, blob, checked.entries, layout) : [];
  const rules = checked.entries.map((entry, index) => {
    const old = known[index];
    // What is checked and what is filled in depends on the hooks that come by, and on nothing else around the rule.
    if (old === undefined || old.namesSets || old.reach !== entry.reach) return reader.read(entry, index);
    blob.fill(0, entry.at + layout.counters, entry.at + layout.bytes);
    return old;
  });
  reader.finish();
  const chains = assemble(blob, checked, rules);
  const span = spanOf(request.table, 0);
  return {
    // The table's name is looked up after everything else was found right.
    table: { name: request.table as TableName, chains, span },
    blob,
    shape: checked.shape,
    offsets: checked.entries.map(({ at }) => at),
    entries: checked.entries,
    read: rules,
  };
}

/** What `before` read of the entry that each of these is again, as far as they stand at the front or at the end. */
function findKnown(
  before: DecodedTable,
  blob: Uint8Array<ArrayBuffer>,
  entries: readonly Entry[],
  layout: EntryLayout,
): (ReadRule | undefined)[] {
  const { read, entries: old } = before;
  const words = new Int32Array(blob.buffer);
  const oldWords = new Int32Array(before.blob.buffer);
  const isSame = (was: Entry, entry: Entry): boolean => {
    if (was.bytes !== entry.bytes || was.target - was.at !== entry.target - entry.at) return false;
    const jumps = was.verdict > 0 && entry.verdict > 0;
    const verdict = jumps ? (entry.target + ExtensionHeader.BYTES - entry.at) / 4 : -1;
    const counters = layout.counters / 4;
    const behind = layout.bytes / 4;
    const oldAt = was.at / 4;
    const at = entry.at / 4;
    for (let word = entry.bytes / 4 - 1; word >= 0; word--) {
      if (words[at + word] === oldWords[oldAt + word] || word === verdict) continue;
      if (word < counters || word >= behind) return false;
    }
    return true;
  };
  const known = new Array<ReadRule | undefined>(entries.length).fill(undefined);
  const shorter = Math.min(old.length, entries.length);
  let front = 0;
  for (; front < shorter && isSame(old[front]!, entries[front]!); front++) known[front] = read[front];
  for (let back = 1; back <= shorter - front; back++) {
    if (!isSame(old[old.length - back]!, entries[entries.length - back]!)) break;
    known[entries.length - back] = read[old.length - back];
  }
  return known;
}

function spanOf(table: string, entry: number): Span {
  return { file: `table ${table}`, line: entry + 1, column: 1, length: 1 };
}

/** What an entry says, where jumps are still byte offsets. */
export interface ReadRule {
  /** Hooks that come by, as its entry has them. */
  readonly reach: number;
  readonly base: BaseMatch;
  readonly matches: readonly MatchUse[];
  readonly target: TargetUse | undefined;
  readonly goto: boolean;
  readonly span: Span;
  /** What it says changes with the numbers of sets. */
  readonly namesSets: boolean;
  /** The rule, once it is part of a chain. */
  rule?: Rule;
}

class RuleReader {
  readonly #blob: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #table: string;
  readonly #layout: EntryLayout;
  readonly #context: PayloadContext;
  #askedSets = false;
  /** The first thing that rules cannot say; the kernel's refusals of later entries come before it. */
  #unwritten: UnwrittenError | undefined;

  constructor(
    blob: Uint8Array<ArrayBuffer>,
    table: string,
    layout: EntryLayout,
    sets: SetNumbers | undefined,
  ) {
    this.#blob = blob;
    this.#view = new DataView(blob.buffer);
    this.#table = table;
    this.#layout = layout;
    this.#context = { family: layout.family, sets: sets && this.#noting(sets) };
  }

  #noting(sets: SetNumbers): SetNumbers {
    const note = (): SetNumbers => {
      this.#askedSets = true;
      return sets;
    };
    return { numberOf: (name) => note().numberOf(name), nameOf: (number) => note().nameOf(number) };
  }

  /** @throws {UnwrittenError} after everything was read */
  finish(): void {
    if (this.#unwritten !== undefined) throw this.#unwritten;
  }

  /** What `read` gives; `undefined` when rules cannot say it. */
  #orLater<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof UnwrittenError)) throw error;
      this.#unwritten ??= error;
      return undefined;
    }
  }

  read(entry: Entry, index: number): ReadRule {
    this.#askedSets = false;
    const span = spanOf(this.#table, index);
    const layout = this.#layout;
    const rule = { protocol: this.#protocol(entry), hooks: reachedHooks(entry) };
    const matches: MatchUse[] = [];
    for (const place of matchPlaces(this.#view, entry, layout)) {
      const { known, state } = this.#extension('match', place, rule, matches);
      const { extension } = known;
      if (extension.kind === 'match') matches.push({ extension, name: extension.name, state, span });
    }
    const place = { at: entry.target, bytes: this.#view.getUint16(entry.target, true) };
    const builtin = BUILTIN_BYTES[entry.targetName];
    let target: TargetUse | undefined;
    if (builtin === undefined) {
      const { known, state } = this.#extension('target', place, rule, matches);
      const { extension } = known;
      if (extension.kind === 'target')
        target = { kind: 'extension', extension, name: extension.name, state, span };
    } else {
      this.#builtin(entry, place, builtin);
      const name = verdictName(entry.verdict);
      if (entry.targetName === STANDARD_TARGET && name !== undefined)
        target = { kind: 'verdict', verdict: name, span };
    }
    this.#fill(entry, place);
    const ip = new DataView(this.#blob.buffer, entry.at, layout.bytes);
    return {
      reach: entry.reach,
      base: this.#orLater(() => decodeBase(ip, layout)) ?? {},
      matches,
      target,
      goto: (this.#blob[entry.at + layout.flags]! & layout.gotoFlag) !== 0,
      span,
      namesSets: this.#askedSets,
    };
  }

  #protocol(entry: Entry): AdmitContext['protocol'] {
    const number = this.#view.getUint16(entry.at + this.#layout.protocol, true);
    const negate = (this.#blob[entry.at + this.#layout.invertFlags]! & Invert.PROTOCOL) !== 0;
    return number === 0 ? undefined : { number, negate };
  }

  /** The standard and the error target: xt_check_target knows them too. */
  #builtin(entry: Entry, place: ExtensionPlace, size: number): void {
    // An unknown revision of either is ENOENT: both are registered for the family.
    const revision = this.#blob[place.at + ExtensionHeader.REVISION]!;
    if (revision !== 0) findForms('target', this.#layout.family, entry.targetName, revision);
    if (place.bytes !== ExtensionHeader.BYTES + align8(size))
      refuse(`the target of the entry at ${entry.at} has the wrong size`);
    this.#clear(place, entry.targetName, size);
  }

  /** Finds, reads and checks one match or target, and hides what the kernel keeps to itself. */
  #extension(
    kind: ExtensionKind,
    place: ExtensionPlace,
    rule: { readonly protocol: AdmitContext['protocol']; readonly hooks: readonly Hook[] },
    matches: readonly MatchUse[],
  ): { readonly known: KnownForm; readonly state: unknown } {
    const { family } = this.#layout;
    const name = fieldText(this.#blob, place.at + ExtensionHeader.NAME, EXTENSION_NAME_BYTES);
    const revision = this.#blob[place.at + ExtensionHeader.REVISION]!;
    const forms = findForms(kind, family, name, revision);
    const { size, userSize } = forms[0]!.form;
    if (place.bytes !== ExtensionHeader.BYTES + align8(size))
      refuse(`${kind} ${name} has ${place.bytes - ExtensionHeader.BYTES} bytes, not ${align8(size)}`);
    const payload = new DataView(this.#blob.buffer, place.at + ExtensionHeader.BYTES, size);
    for (const known of forms) {
      let written = true;
      const state = this.#orLater(() => {
        written = false;
        const read = known.form.decode(payload, this.#context);
        written = true;
        return read;
      });
      if (state === undefined && written) continue;
      this.#check(known, state, rule, matches);
      this.#clear(place, name, userSize ?? size);
      return { known, state };
    }
    return unwritten(`${kind} ${name} says nothing that is known`);
  }

  #check(
    { extension }: KnownForm,
    state: unknown,
    rule: { readonly protocol: AdmitContext['protocol']; readonly hooks: readonly Hook[] },
    matches: readonly MatchUse[],
  ): void {
    // Of a payload that says something unheard of, only what does not depend on it can be checked.
    const where =
      state !== undefined
        ? whereOf<unknown>(extension, state)
        : typeof extension.where === 'object'
          ? extension.where
          : {};
    if (where.tables !== undefined && !(where.tables as readonly string[]).includes(this.#table))
      refuse(`${extension.name} is not possible in table ${this.#table}`);
    if (where.hooks !== undefined && rule.hooks.some((hook) => !where.hooks!.includes(hook)))
      refuse(`${extension.name} is not possible in rules reached from here`);
    const { protocol } = rule;
    if (
      where.protocols !== undefined &&
      (protocol === undefined || protocol.negate || !where.protocols.includes(protocol.number))
    )
      refuse(`${extension.name} needs another protocol`);
    if (state === undefined || !isTableName(this.#table)) return;
    try {
      extension.admit?.(state, {
        family: this.#layout.family,
        table: this.#table,
        chain: '',
        hooks: rule.hooks,
        matches,
        ...(protocol === undefined ? {} : { protocol }),
      });
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      refuse(`${extension.name}: ${error.message}`);
    }
  }

  /** xt_match_to_user and xt_target_to_user: name up to its end, payload up to what user space may see. */
  #clear(place: ExtensionPlace, name: string, userSize: number): void {
    const nameEnd = place.at + ExtensionHeader.NAME + name.length;
    this.#blob.fill(0, nameEnd, place.at + ExtensionHeader.REVISION);
    this.#blob.fill(0, place.at + ExtensionHeader.BYTES + userSize, place.at + place.bytes);
  }

  /** Fields that the kernel sets itself, and the gap behind a target. */
  #fill(entry: Entry, target: ExtensionPlace): void {
    this.#view.setUint32(entry.at + this.#layout.comefrom, entry.reach, true);
    this.#blob.fill(0, entry.at + this.#layout.counters, entry.at + this.#layout.bytes);
    this.#blob.fill(0, target.at + target.bytes, entry.at + entry.bytes);
  }
}

function reachedHooks(entry: Entry): readonly Hook[] {
  return Object.values(Hook).filter((hook) => (entry.reach & (1 << hook)) !== 0);
}

function verdictName(verdict: number): 'ACCEPT' | 'DROP' | 'QUEUE' | 'RETURN' | undefined {
  switch (verdict) {
    case Verdict.ACCEPT:
      return 'ACCEPT';
    case Verdict.DROP:
      return 'DROP';
    case Verdict.QUEUE:
      return 'QUEUE';
    case Verdict.RETURN:
      return 'RETURN';
    default:
      return undefined;
  }
}

/** The first and the last entry of a chain: its policy, or the RETURN that ends a user chain. */
interface Stretch {
  readonly chain: Chain;
  readonly first: number;
  readonly last: number;
}

/** Entries as chains, laid out as libiptc does. @throws {UnwrittenError} for any other layout */
function assemble(blob: Uint8Array, checked: CheckedEntries, rules: readonly ReadRule[]): Chain[] {
  const { entries } = checked;
  const stretches = findStretches(blob, checked, rules);
  const chainAt = new Map<number, string>();
  for (const { chain, first } of stretches)
    if (chain.policy === undefined) chainAt.set(entries[first]!.at, chain.name);
  for (const { chain, first, last } of stretches)
    for (let index = first; index < last; index++)
      chain.rules.push(finishRule(rules[index]!, entries[index]!, chainAt));
  return stretches.map(({ chain }) => chain);
}

function findStretches(blob: Uint8Array, checked: CheckedEntries, rules: readonly ReadRule[]): Stretch[] {
  const { entries, shape } = checked;
  const starts = new Map<number, number>();
  for (let hook = 0; hook < HOOK_COUNT; hook++)
    if ((shape.validHooks & (1 << hook)) !== 0) starts.set(shape.hookEntries[hook]!, hook);
  const end = entries.length - 1;
  if (end < 0 || entries[end]!.targetName !== ERROR_TARGET)
    unwritten('the table does not end with an ERROR entry');
  const stretches: Stretch[] = [];
  for (let index = 0; index < end; ) {
    const hook = starts.get(entries[index]!.at);
    const head = entries[index]!.targetName === ERROR_TARGET;
    if (hook === undefined && !head) unwritten(`the rule at ${entries[index]!.at} is in no chain`);
    const first = head ? index + 1 : index;
    let next = first;
    while (next < end && (next === index || !isHead(entries[next]!, starts))) next++;
    const last = next - 1;
    const policy = last < first ? undefined : rules[last]!.target;
    const span = rules[index]!.span;
    const counters = { packets: 0n, bytes: 0n };
    if (hook !== undefined) {
      if (last < first || shape.underflows[hook] !== entries[last]!.at || policy?.kind !== 'verdict')
        unwritten(`the chain of hook ${hook} does not end with its policy`);
      const verdict = policy.verdict === 'DROP' ? 'DROP' : 'ACCEPT';
      stretches.push({
        chain: { name: HOOK_CHAINS[hook]!, policy: verdict, counters, rules: [], span },
        first,
        last,
      });
    } else {
      const at = entries[index]!.target + ExtensionHeader.BYTES;
      const name = readText(new DataView(blob.buffer, blob.byteOffset), at, CHAIN_NAME_BYTES);
      if (last < first || !entries[last]!.unconditional || entries[last]!.verdict !== Verdict.RETURN)
        unwritten(`chain ${name} does not end with RETURN`);
      stretches.push({ chain: { name, policy: undefined, counters, rules: [], span }, first, last });
    }
    index = next;
  }
  return stretches;
}

function isHead(entry: Entry, starts: ReadonlyMap<number, number>): boolean {
  return entry.targetName === ERROR_TARGET || starts.has(entry.at);
}

function finishRule(read: ReadRule, entry: Entry, chainAt: ReadonlyMap<number, string>): Rule {
  const { base, matches, target, goto, span, rule: known } = read;
  const make = (to?: TargetUse): Rule => {
    read.rule = { base, matches, counters: { packets: 0n, bytes: 0n }, span, ...(to && { target: to }) };
    return read.rule;
  };
  const jump = entry.targetName === STANDARD_TARGET && entry.verdict > 0;
  if (goto && !jump) unwritten(`the rule at ${entry.at} goes to no chain`);
  if (target !== undefined) return known ?? make(target);
  if (!jump) return unwritten(`the entry at ${entry.at} is a chain's head inside another chain`);
  if (entry.verdict === entry.at + entry.bytes && !goto)
    return known !== undefined && known.target === undefined ? known : make();
  const chain = chainAt.get(entry.verdict);
  if (chain === undefined) unwritten(`the rule at ${entry.at} jumps into the middle of a chain`);
  const same = known?.target?.kind === 'chain' && known.target.chain === chain;
  return same ? known : make({ kind: 'chain', chain, goto, span });
}
