/**
 * The tables of one network namespace as iptables sees them: answers every table option as the kernel would
 * (net/ipv4/netfilter/ip_tables.c: do_ipt_get_ctl, do_ipt_set_ctl), and hands what is committed to an engine.
 */
import type { Family } from '../../net/index.ts';
import {
  AbiErrno,
  AbiError,
  answerSetRequest,
  type Counters,
  countedEntries,
  type DecodedTable,
  decodeCountersRequest,
  decodeEntriesRequest,
  decodeInfoRequest,
  decodeReplaceHeader,
  decodeRevisionRequest,
  decodeTable,
  ENTRY_LAYOUTS,
  emptyTable,
  encodeCounters,
  encodeInfo,
  encodeTable,
  findRevision,
  isTableName,
  REPLACE_BYTES,
  type ReplaceHeader,
  type Ruleset,
  type Table,
  type TableName,
} from '../../rules/index.ts';
import type { LiveCounters, TableEngine } from './engine.ts';

/** A table and the counters that user space has added; the engine counts the rest. */
interface Held extends DecodedTable {
  readonly added: Counters[];
}

/** What a committed request sends back. */
export interface Replaced {
  /** struct xt_counters[] of the table that was replaced. */
  readonly oldCounters: Uint8Array<ArrayBuffer>;
  /** Where the caller wants them. */
  readonly countersAddress: bigint;
}

export class TableStore {
  readonly #engine: TableEngine;
  /** In the order in which the kernel lists tables: the one asked for first comes last. */
  readonly #held: Readonly<Record<Family, Map<TableName, Held>>> = { ipv4: new Map(), ipv6: new Map() };

  constructor(engine: TableEngine) {
    this.#engine = engine;
  }

  /** Answer to GET_INFO. @throws {AbiError} */
  info(family: Family, request: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const name = decodeInfoRequest(request, length);
    const { shape, offsets, blob } = this.#find(family, name);
    return encodeInfo(name, shape, offsets.length, blob.length);
  }

  /** Bytes to write behind the request's first 40 bytes. @throws {AbiError} */
  entries(family: Family, request: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const { table, size } = decodeEntriesRequest(request, length);
    const held = this.#find(family, table);
    if (size !== held.blob.length) throw new AbiError(AbiErrno.EAGAIN, 'the table has changed meanwhile');
    const blob = new Uint8Array(held.blob);
    const view = new DataView(blob.buffer);
    const at = ENTRY_LAYOUTS[family].counters;
    for (const [index, { packets, bytes }] of this.#counters(family, held).entries()) {
      view.setBigUint64(held.offsets[index]! + at, packets, true);
      view.setBigUint64(held.offsets[index]! + at + 8, bytes, true);
    }
    return blob;
  }

  /** Answer to GET_REVISION_MATCH and GET_REVISION_TARGET: nothing. @throws {AbiError} */
  revision(kind: 'match' | 'target', family: Family, request: Uint8Array, length: number): void {
    const { name, revision } = decodeRevisionRequest(request, length);
    findRevision(kind, family, name, revision);
  }

  /** Answer to SO_IP_SET. @throws {AbiError} */
  sets(request: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    return answerSetRequest(this.#engine.sets, request, length);
  }

  /** The length of a REPLACE that has to be read, from its first bytes. @throws {AbiError} */
  replaceHeader(request: Uint8Array, length: number): ReplaceHeader {
    return decodeReplaceHeader(request, length);
  }

  /** REPLACE: checks as the kernel does, commits, and then only answers. @throws {AbiError} */
  async replace(family: Family, request: Uint8Array, length: number): Promise<Replaced> {
    const header = decodeReplaceHeader(request, length);
    const entries = request.subarray(REPLACE_BYTES, REPLACE_BYTES + header.size);
    const before = isTableName(header.table) ? this.#held[family].get(header.table) : undefined;
    const decoded = decodeTable(entries, header, family, this.#engine.sets, before);
    return await this.#exclusively(() => this.#commit(family, header, decoded));
  }

  /** What is compared with the table that runs, and put in its place, while nobody else changes it. */
  async #commit(family: Family, header: ReplaceHeader, decoded: DecodedTable): Promise<Replaced> {
    const old = this.#find(family, header.table);
    if (header.validHooks !== old.shape.validHooks)
      throw new AbiError(AbiErrno.EINVAL, `table ${header.table} has other chains`);
    if (header.counterCount !== old.offsets.length)
      throw new AbiError(AbiErrno.EAGAIN, 'the table has changed meanwhile');
    const live = await this.#engine.replace(this.#with(family, decoded.table), decoded.table);
    const oldCounters = encodeCounters(sum(old.added, live));
    this.#held[family].set(decoded.table.name, { ...decoded, added: noCounters(decoded.offsets.length) });
    return { oldCounters, countersAddress: header.countersAddress };
  }

  /** ADD_COUNTERS. @throws {AbiError} */
  async addCounters(family: Family, request: Uint8Array, length: number): Promise<void> {
    const { table, counters } = decodeCountersRequest(request, length);
    await this.#exclusively(() => this.#add(family, table, counters));
  }

  async #add(family: Family, table: string, counters: LiveCounters): Promise<void> {
    const held = this.#find(family, table);
    const { added } = held;
    if (counters.length !== added.length)
      throw new AbiError(AbiErrno.EINVAL, `table ${table} has ${added.length} entries`);
    if (this.#engine.addCounters !== undefined) {
      await this.#engine.addCounters(family, held.table, counters);
      return;
    }
    for (const [index, { packets, bytes }] of counters.entries()) {
      const one = added[index]!;
      one.packets = BigInt.asUintN(64, one.packets + packets);
      one.bytes = BigInt.asUintN(64, one.bytes + bytes);
    }
  }

  /** How many old counters a REPLACE of this table has to have room for. @throws {AbiError} */
  entryCount(family: Family, table: TableName): number {
    return this.#find(family, table).offsets.length;
  }

  /** Content of /proc/net/ip_tables_names: tables that were asked for so far. */
  tableNames(family: Family): string {
    this.#refresh();
    return [...this.#held[family].keys()]
      .reverse()
      .map((name) => `${name}\n`)
      .join('');
  }

  /** All tables that were asked for, with their counters, in the order of iptables-save. */
  ruleset(family: Family): Ruleset {
    const tables = [...this.#held[family].values()].reverse().map((held) => {
      const counters = this.#counters(family, held);
      for (const [index, counted] of countedEntries(held.table).entries())
        if (counted !== undefined) Object.assign(counted, counters[index]);
      return held.table;
    });
    return { family, tables };
  }

  /** Starts from these rules and their counters. @throws {AbiError} */
  async load(ruleset: Ruleset): Promise<void> {
    const { family } = ruleset;
    for (const table of ruleset.tables) {
      this.#find(family, table.name);
      const held = this.#encoded(table, family);
      await this.#engine.replace(this.#with(family, held.table), held.table);
      const added = noCounters(held.offsets.length);
      for (const [index, counted] of countedEntries(ordered(table)).entries())
        if (counted !== undefined) added[index] = { ...counted };
      this.#held[family].set(table.name, { ...held, added });
    }
  }

  /** The table; one that is asked for the first time comes into being. @throws {AbiError} ENOENT */
  #find(family: Family, name: string): Held {
    if (!isTableName(name) || !this.#engine.tables.includes(name))
      throw new AbiError(AbiErrno.ENOENT, `there is no table "${name}"`);
    this.#refresh();
    return this.#held[family].get(name) ?? this.#hold(family, emptyTable(name));
  }

  #hold(family: Family, table: Table): Held {
    const decoded = this.#encoded(table, family);
    const held = { ...decoded, added: noCounters(decoded.offsets.length) };
    this.#held[family].set(table.name, held);
    return held;
  }

  /** Takes up what others have put in force; a table that they took away is as in a new namespace. */
  #refresh(): void {
    const running = this.#engine.changed?.();
    if (running === undefined) return;
    for (const family of ['ipv4', 'ipv6'] as const) {
      const tables = running.find((ruleset) => ruleset.family === family)?.tables ?? [];
      for (const name of this.#held[family].keys())
        if (!tables.some((table) => table.name === name)) this.#hold(family, emptyTable(name));
      for (const table of tables) this.#hold(family, table);
    }
  }

  #encoded(table: Table, family: Family): DecodedTable {
    const { sets } = this.#engine;
    const { blob, shape, entryCount } = encodeTable(table, family, sets);
    return decodeTable(blob, { table: table.name, entryCount, ...shape }, family, sets);
  }

  async #exclusively<T>(use: () => Promise<T>): Promise<T> {
    return this.#engine.exclusively === undefined ? await use() : await this.#engine.exclusively(use);
  }

  #with(family: Family, table: Table): Ruleset {
    const held = [...this.#held[family].values()].map((one) => one.table);
    return { family, tables: held.map((one) => (one.name === table.name ? table : one)) };
  }

  #counters(family: Family, held: Held): Counters[] {
    return sum(held.added, this.#engine.counters(family, held.table.name));
  }
}

/** Built-in chains first and in hook order, as they are encoded. */
function ordered(table: Table): Table {
  const builtin = emptyTable(table.name).chains.map(
    (chain) => table.chains.find(({ name }) => name === chain.name) ?? chain,
  );
  return { ...table, chains: [...builtin, ...table.chains.filter((chain) => !builtin.includes(chain))] };
}

function noCounters(count: number): Counters[] {
  return Array.from({ length: count }, () => ({ packets: 0n, bytes: 0n }));
}

function sum(added: readonly Counters[], live: readonly Counters[] | undefined): Counters[] {
  return added.map(({ packets, bytes }, index) => ({
    packets: BigInt.asUintN(64, packets + (live?.[index]?.packets ?? 0n)),
    bytes: BigInt.asUintN(64, bytes + (live?.[index]?.bytes ?? 0n)),
  }));
}
