/** From rules to the bytes of a table, laid out as libiptc does (iptcc_compile_table, libiptc/libiptc.c). */
import { HOOK_CHAINS } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { MatchExtension, TargetExtension } from '../extension.ts';
import type { Chain, Rule, Table } from '../model.ts';
import { TABLE_HOOKS } from '../tables.ts';
import { encodeBase } from './base.ts';
import { checkEntries } from './entries.ts';
import { AbiErrno, AbiError } from './errno.ts';
import {
  align8,
  ENTRY_LAYOUTS,
  type EntryLayout,
  ERROR_TARGET,
  ERROR_TARGET_BYTES,
  ExtensionHeader,
  HOOK_COUNT,
  NO_HOOK,
  putFieldText,
  STANDARD_TARGET_BYTES,
  Verdict,
} from './layout.ts';
import { writtenForm } from './lookup.ts';
import { type AbiForm, type SetNumbers, writeText } from './payload.ts';
import type { TableShape } from './requests.ts';

export interface EncodedTable {
  readonly blob: Uint8Array<ArrayBuffer>;
  readonly shape: TableShape;
  readonly entryCount: number;
}

/** A match or target ready to be written. */
interface Piece {
  readonly form: AbiForm<unknown>;
  readonly state: unknown;
}

/** One entry before its place is known. */
interface Planned {
  readonly rule: Rule | undefined;
  readonly matches: readonly Piece[];
  readonly target: Piece | { readonly verdict: number | 'next' | 'jump' } | { readonly head: string };
  readonly goto: boolean;
  readonly jumpTo: string;
  readonly bytes: number;
  readonly counters: { readonly packets: bigint; readonly bytes: bigint };
}

const NO_COUNTERS = { packets: 0n, bytes: 0n };

/**
 * Built-in chains in hook order, then the others as they stand in the table. Counters of rules and policies are written.
 * @throws {AbiError} ENOENT for an extension that has no binary form, a chain or a set that is not there
 */
export function encodeTable(table: Table, family: Family, sets?: SetNumbers): EncodedTable {
  return new TableWriter(table, family, sets).write();
}

class TableWriter {
  readonly #table: Table;
  readonly #family: Family;
  readonly #layout: EntryLayout;
  readonly #sets: SetNumbers | undefined;

  constructor(table: Table, family: Family, sets: SetNumbers | undefined) {
    this.#table = table;
    this.#family = family;
    this.#layout = ENTRY_LAYOUTS[family];
    this.#sets = sets;
  }

  write(): EncodedTable {
    const hooks = TABLE_HOOKS[this.#table.name];
    const planned: Planned[] = [];
    const hookEntries = new Array<number>(HOOK_COUNT).fill(NO_HOOK);
    const underflows = new Array<number>(HOOK_COUNT).fill(NO_HOOK);
    const chainAt = new Map<string, number>();
    let at = 0;
    const add = (entry: Planned): void => {
      planned.push(entry);
      at += entry.bytes;
    };
    const addRules = (chain: Chain | undefined): void => {
      for (const rule of chain?.rules ?? []) add(this.#planRule(rule));
    };
    let validHooks = 0;
    for (const hook of hooks) {
      const chain = this.#table.chains.find(({ name }) => name === HOOK_CHAINS[hook]);
      validHooks |= 1 << hook;
      hookEntries[hook] = at;
      addRules(chain);
      underflows[hook] = at;
      const verdict = chain?.policy === 'DROP' ? Verdict.DROP : Verdict.ACCEPT;
      add(this.#planVerdict(verdict, chain?.counters ?? NO_COUNTERS));
    }
    for (const chain of this.#table.chains) {
      if (hooks.some((hook) => HOOK_CHAINS[hook] === chain.name)) continue;
      add(this.#planHead(chain.name));
      chainAt.set(chain.name, at);
      addRules(chain);
      add(this.#planVerdict(Verdict.RETURN, NO_COUNTERS));
    }
    add(this.#planHead(ERROR_TARGET));
    const blob = new Uint8Array(at);
    let offset = 0;
    for (const entry of planned) {
      this.#put(blob, offset, entry, chainAt);
      offset += entry.bytes;
    }
    const shape = { validHooks, hookEntries, underflows };
    this.#fillReach(blob, shape, planned.length);
    return { blob, shape, entryCount: planned.length };
  }

  #piece(extension: MatchExtension | TargetExtension, state: unknown): Piece {
    const form = writtenForm(extension, this.#family);
    if (form === undefined)
      throw new AbiError(AbiErrno.ENOENT, `${extension.kind} ${extension.name} has no binary form here`);
    return { form, state };
  }

  #planRule(rule: Rule): Planned {
    const matches = rule.matches.map(({ extension, state }) => this.#piece(extension, state));
    const matchBytes = matches.reduce((sum, { form }) => sum + pieceBytes(form), 0);
    const { target } = rule;
    const common = { rule, matches, counters: rule.counters };
    const standard = (verdict: number | 'next' | 'jump', jumpTo = '', goto = false): Planned => ({
      ...common,
      target: { verdict },
      jumpTo,
      goto,
      bytes: this.#layout.bytes + matchBytes + STANDARD_TARGET_BYTES,
    });
    switch (target?.kind) {
      case undefined:
        return standard('next');
      case 'verdict':
        return standard(Verdict[target.verdict]);
      case 'chain':
        return standard('jump', target.chain, target.goto);
      case 'extension': {
        const piece = this.#piece(target.extension, target.state);
        const bytes = this.#layout.bytes + matchBytes + pieceBytes(piece.form);
        return { ...common, target: piece, jumpTo: '', goto: false, bytes };
      }
    }
  }

  #planVerdict(verdict: number, counters: Planned['counters']): Planned {
    const bytes = this.#layout.bytes + STANDARD_TARGET_BYTES;
    return { rule: undefined, matches: [], target: { verdict }, goto: false, jumpTo: '', bytes, counters };
  }

  #planHead(head: string): Planned {
    const bytes = this.#layout.bytes + ERROR_TARGET_BYTES;
    return {
      rule: undefined,
      matches: [],
      target: { head },
      goto: false,
      jumpTo: '',
      bytes,
      counters: NO_COUNTERS,
    };
  }

  #put(
    blob: Uint8Array<ArrayBuffer>,
    at: number,
    planned: Planned,
    chainAt: ReadonlyMap<string, number>,
  ): void {
    const layout = this.#layout;
    const view = new DataView(blob.buffer);
    if (planned.rule !== undefined)
      encodeBase(planned.rule.base, new DataView(blob.buffer, at, layout.bytes), layout);
    if (planned.goto) blob[at + layout.flags]! |= layout.gotoFlag;
    let next = at + layout.bytes;
    for (const piece of planned.matches) {
      this.#putPiece(blob, next, piece);
      next += pieceBytes(piece.form);
    }
    view.setUint16(at + layout.targetOffset, next - at, true);
    view.setUint16(at + layout.nextOffset, planned.bytes, true);
    view.setBigUint64(at + layout.counters, planned.counters.packets, true);
    view.setBigUint64(at + layout.counters + 8, planned.counters.bytes, true);
    const { target } = planned;
    if ('form' in target) this.#putPiece(blob, next, target);
    else if ('head' in target) {
      view.setUint16(next, ERROR_TARGET_BYTES, true);
      putFieldText(blob, next + ExtensionHeader.NAME, ERROR_TARGET);
      writeText(view, next + ExtensionHeader.BYTES, ERROR_TARGET_BYTES - ExtensionHeader.BYTES, target.head);
    } else {
      view.setUint16(next, STANDARD_TARGET_BYTES, true);
      const verdict =
        target.verdict === 'next'
          ? at + planned.bytes
          : target.verdict === 'jump'
            ? chainAt.get(planned.jumpTo)
            : target.verdict;
      if (verdict === undefined) throw new AbiError(AbiErrno.ENOENT, `there is no chain ${planned.jumpTo}`);
      view.setInt32(next + ExtensionHeader.BYTES, verdict, true);
    }
  }

  #putPiece(blob: Uint8Array<ArrayBuffer>, at: number, { form, state }: Piece): void {
    new DataView(blob.buffer).setUint16(at, pieceBytes(form), true);
    putFieldText(blob, at + ExtensionHeader.NAME, form.name);
    blob[at + ExtensionHeader.REVISION] = form.revision;
    form.encode(state, new DataView(blob.buffer, at + ExtensionHeader.BYTES, form.size), {
      family: this.#family,
      sets: this.#sets,
    });
  }

  #fillReach(blob: Uint8Array<ArrayBuffer>, shape: TableShape, count: number): void {
    const view = new DataView(blob.buffer);
    for (const { at, reach } of checkEntries(blob, shape, count, this.#layout).entries)
      view.setUint32(at + this.#layout.comefrom, reach, true);
  }
}

function pieceBytes(form: AbiForm<unknown>): number {
  return ExtensionHeader.BYTES + align8(form.size);
}
