/**
 * The structures of each socket option: struct ipt_getinfo, ipt_get_entries, ipt_replace, xt_counters_info,
 * xt_get_revision; those of IPv6 have the same layout. Lengths are checked in the order of the kernel
 * (net/ipv4/netfilter/ip_tables.c: do_replace, do_add_counters, get_info, get_entries, do_ipt_get_ctl).
 */
import type { Counters } from '../model.ts';
import { AbiErrno, AbiError, refuse } from './errno.ts';
import {
  COUNTER_BYTES,
  EXTENSION_NAME_BYTES,
  fieldText,
  HOOK_COUNT,
  putFieldText,
  TABLE_NAME_BYTES,
} from './layout.ts';

/** Option numbers: at level SOL_IP for IPv4, SOL_IPV6 for IPv6. */
export const TableOption = {
  SET_REPLACE: 64,
  SET_ADD_COUNTERS: 65,
  GET_INFO: 64,
  GET_ENTRIES: 65,
  GET_REVISION_MATCH: { ipv4: 66, ipv6: 68 },
  GET_REVISION_TARGET: { ipv4: 67, ipv6: 69 },
} as const;

export const INFO_BYTES = 84;
export const GET_ENTRIES_BYTES = 40;
export const REPLACE_BYTES = 96;
export const COUNTERS_INFO_BYTES = 40;
export const REVISION_BYTES = 30;

const SIZE_OFFSET = 32;
/** XT_MAX_TABLE_SIZE, and INT_MAX. */
const MAXIMUM_BYTES = 512 * 1024 * 1024;
const INT_MAX = 0x7fff_ffff;

/** Where the chains of a table begin and end. */
export interface TableShape {
  /** Bit per hook. */
  readonly validHooks: number;
  /** Byte offset of the first rule per hook, {@link NO_HOOK} where there is none. */
  readonly hookEntries: readonly number[];
  /** Byte offset of the policy per hook. */
  readonly underflows: readonly number[];
}

/** struct ipt_replace before its entries. */
export interface ReplaceHeader extends TableShape {
  readonly table: string;
  readonly entryCount: number;
  /** Bytes of entries. */
  readonly size: number;
  readonly counterCount: number;
  /** Where user space wants the old counters. */
  readonly countersAddress: bigint;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function tableName(bytes: Uint8Array): string {
  return fieldText(bytes, 0, TABLE_NAME_BYTES - 1);
}

function words(view: DataView, offset: number): number[] {
  return Array.from({ length: HOOK_COUNT }, (_, hook) => view.getUint32(offset + 4 * hook, true));
}

/** The first {@link REPLACE_BYTES}, of which there are `length` in all. @throws {AbiError} */
export function decodeReplaceHeader(bytes: Uint8Array, length: number): ReplaceHeader {
  if (length < REPLACE_BYTES) refuse('the request is shorter than struct ipt_replace');
  const view = viewOf(bytes);
  const header: ReplaceHeader = {
    table: tableName(bytes),
    validHooks: view.getUint32(32, true),
    entryCount: view.getUint32(36, true),
    size: view.getUint32(40, true),
    hookEntries: words(view, 44),
    underflows: words(view, 64),
    counterCount: view.getUint32(84, true),
    countersAddress: view.getBigUint64(88, true),
  };
  if (header.counterCount >= Math.floor(INT_MAX / COUNTER_BYTES))
    throw new AbiError(AbiErrno.ENOMEM, 'there cannot be so many counters');
  if (header.counterCount === 0) refuse('no room for the old counters is given');
  if (length < header.size + REPLACE_BYTES) refuse('the request is shorter than its entries');
  // struct xt_table_info has 64 bytes and a pointer.
  if (header.size + 72 >= MAXIMUM_BYTES) throw new AbiError(AbiErrno.ENOMEM, 'the table is too large');
  return header;
}

export function encodeReplaceHeader(header: ReplaceHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(REPLACE_BYTES);
  const view = viewOf(bytes);
  putFieldText(bytes, 0, header.table);
  view.setUint32(32, header.validHooks, true);
  view.setUint32(36, header.entryCount, true);
  view.setUint32(40, header.size, true);
  putShape(view, 44, 64, header);
  view.setUint32(84, header.counterCount, true);
  view.setBigUint64(88, header.countersAddress, true);
  return bytes;
}

function putShape(view: DataView, entries: number, underflows: number, shape: TableShape): void {
  for (let hook = 0; hook < HOOK_COUNT; hook++) {
    view.setUint32(entries + 4 * hook, shape.hookEntries[hook]!, true);
    view.setUint32(underflows + 4 * hook, shape.underflows[hook]!, true);
  }
}

/** The table that a struct ipt_getinfo asks for. @throws {AbiError} */
export function decodeInfoRequest(bytes: Uint8Array, length: number): string {
  if (length !== INFO_BYTES) refuse('the request is not a struct ipt_getinfo');
  return tableName(bytes);
}

/** What GET_INFO answered. @throws {AbiError} */
export function decodeInfo(
  bytes: Uint8Array,
): TableShape & { readonly table: string; readonly entryCount: number; readonly size: number } {
  const table = decodeInfoRequest(bytes, bytes.length);
  const view = viewOf(bytes);
  return {
    table,
    validHooks: view.getUint32(32, true),
    hookEntries: words(view, 36),
    underflows: words(view, 56),
    entryCount: view.getUint32(76, true),
    size: view.getUint32(80, true),
  };
}

export function encodeInfo(
  table: string,
  shape: TableShape,
  entryCount: number,
  size: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(INFO_BYTES);
  const view = viewOf(bytes);
  putFieldText(bytes, 0, table);
  view.setUint32(32, shape.validHooks, true);
  putShape(view, 36, 56, shape);
  view.setUint32(76, entryCount, true);
  view.setUint32(80, size, true);
  return bytes;
}

/** Table and size of the first {@link GET_ENTRIES_BYTES}, of which there are `length` in all. @throws {AbiError} */
export function decodeEntriesRequest(
  bytes: Uint8Array,
  length: number,
): { readonly table: string; readonly size: number } {
  if (length < GET_ENTRIES_BYTES) refuse('the request is shorter than struct ipt_get_entries');
  const size = viewOf(bytes).getUint32(SIZE_OFFSET, true);
  if (length !== GET_ENTRIES_BYTES + size) refuse('the request is not as long as its entries');
  return { table: tableName(bytes), size };
}

/** @throws {AbiError} */
export function decodeCountersRequest(
  bytes: Uint8Array,
  length: number,
): { readonly table: string; readonly counters: readonly Counters[] } {
  if (length < COUNTERS_INFO_BYTES) refuse('the request is shorter than struct xt_counters_info');
  const count = viewOf(bytes).getUint32(SIZE_OFFSET, true);
  if (length !== COUNTERS_INFO_BYTES + count * COUNTER_BYTES)
    refuse('the request is not as long as its counters');
  return { table: tableName(bytes), counters: decodeCounters(bytes.subarray(COUNTERS_INFO_BYTES), count) };
}

function decodeCounters(bytes: Uint8Array, count: number): Counters[] {
  const view = viewOf(bytes);
  return Array.from({ length: count }, (_, index) => ({
    packets: view.getBigUint64(index * COUNTER_BYTES, true),
    bytes: view.getBigUint64(index * COUNTER_BYTES + 8, true),
  }));
}

/** struct xt_counters[]. */
export function encodeCounters(counters: readonly Counters[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(counters.length * COUNTER_BYTES);
  const view = viewOf(bytes);
  for (const [index, { packets, bytes: octets }] of counters.entries()) {
    view.setBigUint64(index * COUNTER_BYTES, packets, true);
    view.setBigUint64(index * COUNTER_BYTES + 8, octets, true);
  }
  return bytes;
}

/** @throws {AbiError} */
export function decodeRevisionRequest(
  bytes: Uint8Array,
  length: number,
): { readonly name: string; readonly revision: number } {
  if (length !== REVISION_BYTES) refuse('the request is not a struct xt_get_revision');
  return { name: fieldText(bytes, 0, EXTENSION_NAME_BYTES - 1), revision: bytes[29]! };
}
