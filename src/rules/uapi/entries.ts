/**
 * The entries of a table as bytes, and the checks on them that look at no extension: check_entry_size_and_hooks,
 * xt_check_entry_offsets, xt_check_table_hooks and mark_source_chains (net/ipv4/netfilter/ip_tables.c,
 * net/netfilter/x_tables.c), in their order and with their errno.
 */
import { AbiErrno, AbiError, refuse } from './errno.ts';
import {
  align8,
  CHAIN_NAME_BYTES,
  type EntryLayout,
  ERROR_TARGET,
  ERROR_TARGET_BYTES,
  EXTENSION_NAME_BYTES,
  ExtensionHeader,
  fieldText,
  HOOK_COUNT,
  Invert,
  NO_HOOK,
  STANDARD_TARGET,
  STANDARD_TARGET_BYTES,
  Verdict,
} from './layout.ts';
import type { TableShape } from './requests.ts';

/** One entry whose offsets have been checked. */
export interface Entry {
  /** Byte offset in the table. */
  readonly at: number;
  readonly bytes: number;
  /** Byte offset of the target in the table. */
  readonly target: number;
  readonly targetName: string;
  /** Of a standard target; 0 for all others. */
  readonly verdict: number;
  /** No condition and no match. */
  readonly unconditional: boolean;
  /** Bit mask of the hooks whose walk comes by: the `comefrom` that user space reads. */
  reach: number;
}

/** Where a match or target stands: its payload follows its header. */
export interface ExtensionPlace {
  readonly at: number;
  readonly bytes: number;
}

export interface CheckedEntries {
  readonly entries: readonly Entry[];
  readonly shape: TableShape;
}

/** Checks `blob` against the table that the request describes. @throws {AbiError} EINVAL, ELOOP, ENOMEM */
export function checkEntries(
  blob: Uint8Array,
  wanted: TableShape,
  entryCount: number,
  layout: EntryLayout,
): CheckedEntries {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  // xt_alloc_entry_offsets refuses more than fit XT_MAX_TABLE_SIZE.
  if (entryCount > 0x0800_0000) throw new AbiError(AbiErrno.ENOMEM, 'there cannot be so many entries');
  const hookEntries = new Array<number>(HOOK_COUNT).fill(NO_HOOK);
  const underflows = new Array<number>(HOOK_COUNT).fill(NO_HOOK);
  const entries: Entry[] = [];
  for (let at = 0; at < blob.length; ) {
    const entry = checkEntry(blob, view, at, layout);
    for (let hook = 0; hook < HOOK_COUNT; hook++) {
      if ((wanted.validHooks & (1 << hook)) === 0) continue;
      if (wanted.hookEntries[hook] === at) hookEntries[hook] = at;
      if (wanted.underflows[hook] === at) {
        if (!isPolicy(entry)) refuse(`the rule at ${at} cannot be a policy`);
        underflows[hook] = at;
      }
    }
    entries.push(entry);
    at += entry.bytes;
  }
  if (entries.length !== entryCount) refuse(`there are ${entries.length} entries, not ${entryCount}`);
  const shape = { validHooks: wanted.validHooks, hookEntries, underflows };
  checkHooks(shape);
  markSourceChains(entries, shape, blob.length);
  return { entries, shape };
}

function checkEntry(blob: Uint8Array, view: DataView, at: number, layout: EntryLayout): Entry {
  if (at % 8 !== 0 || at + layout.bytes >= blob.length)
    refuse(`the entry at ${at} is cut short or not aligned`);
  const bytes = view.getUint16(at + layout.nextOffset, true);
  if (at + bytes > blob.length) refuse(`the entry at ${at} is longer than the table`);
  if (bytes < layout.bytes + ExtensionHeader.BYTES) refuse(`the entry at ${at} is too short`);
  const flags = blob[at + layout.flags]!;
  const invert = blob[at + layout.invertFlags]!;
  if ((flags & ~layout.knownFlags) !== 0 || (invert & ~Invert.ALL) !== 0)
    refuse(`the entry at ${at} has unknown flags`);
  const targetOffset = view.getUint16(at + layout.targetOffset, true);
  if (targetOffset < layout.bytes || targetOffset + ExtensionHeader.BYTES > bytes)
    refuse(`the target of the entry at ${at} lies outside of it`);
  const target = at + targetOffset;
  const targetBytes = view.getUint16(target, true);
  if (targetBytes < ExtensionHeader.BYTES || targetOffset + targetBytes > bytes)
    refuse(`the target of the entry at ${at} has the wrong size`);
  const targetName = fieldText(blob, target + ExtensionHeader.NAME, EXTENSION_NAME_BYTES);
  let verdict = 0;
  if (targetName === STANDARD_TARGET) {
    if (align8(targetOffset + STANDARD_TARGET_BYTES) !== bytes)
      refuse(`the verdict of the entry at ${at} has the wrong size`);
    verdict = view.getInt32(target + ExtensionHeader.BYTES, true);
    if (!isVerdict(verdict)) refuse(`the entry at ${at} has the unknown verdict ${verdict}`);
  } else if (targetName === ERROR_TARGET) {
    const name = fieldText(blob, target + ExtensionHeader.BYTES, CHAIN_NAME_BYTES);
    if (targetBytes !== ERROR_TARGET_BYTES || name.length === CHAIN_NAME_BYTES)
      refuse(`the chain name at ${at} is not terminated`);
  }
  checkMatches(view, at + layout.bytes, target);
  return {
    at,
    bytes,
    target,
    targetName,
    verdict,
    unconditional: targetOffset === layout.bytes && isZero(blob, at, layout.ipBytes),
    reach: 0,
  };
}

/** xt_check_entry_match: sizes lead exactly to the target. */
function checkMatches(view: DataView, start: number, target: number): void {
  for (let at = start; at < target; ) {
    const left = target - at;
    if (at % 8 !== 0 || left < ExtensionHeader.BYTES)
      refuse(`the match at ${at} is cut short or not aligned`);
    const bytes = view.getUint16(at, true);
    if (bytes < ExtensionHeader.BYTES || bytes > left) refuse(`the match at ${at} has the wrong size`);
    at += bytes;
  }
}

/** The matches of a checked entry, in order. */
export function matchPlaces(view: DataView, entry: Entry, layout: EntryLayout): ExtensionPlace[] {
  const places: ExtensionPlace[] = [];
  for (let at = entry.at + layout.bytes; at < entry.target; ) {
    const bytes = view.getUint16(at, true);
    places.push({ at, bytes });
    at += bytes;
  }
  return places;
}

function isZero(blob: Uint8Array, start: number, length: number): boolean {
  for (let index = start; index < start + length; index++) if (blob[index] !== 0) return false;
  return true;
}

function isVerdict(verdict: number): boolean {
  return verdict > 0 || (Object.values(Verdict) as number[]).includes(verdict);
}

function isPolicy(entry: Entry): boolean {
  const { verdict } = entry;
  return (
    entry.unconditional &&
    entry.targetName === STANDARD_TARGET &&
    (verdict === Verdict.ACCEPT || verdict === Verdict.DROP)
  );
}

/** xt_check_table_hooks: every chain is there, and they stand in the order of their hooks. */
function checkHooks(shape: TableShape): void {
  let before: number | undefined;
  for (let hook = 0; hook < HOOK_COUNT; hook++) {
    if ((shape.validHooks & (1 << hook)) === 0) continue;
    const entry = shape.hookEntries[hook]!;
    const underflow = shape.underflows[hook]!;
    if (entry === NO_HOOK || underflow === NO_HOOK) refuse(`the chain of hook ${hook} is not there`);
    if (before !== undefined) {
      if (underflow <= shape.underflows[before]! || entry <= shape.hookEntries[before]!)
        refuse(`the chain of hook ${hook} stands before that of hook ${before}`);
    }
    before = hook;
  }
}

/**
 * Follows every jump from every hook and marks what is come by; refuses circles, jumps to where no entry begins, and
 * walks off the end. As in the kernel a chain is walked once per hook, so its length is bounded.
 * @throws {AbiError} ELOOP
 */
function markSourceChains(entries: readonly Entry[], shape: TableShape, size: number): void {
  const indexAt = new Map(entries.map(({ at }, index) => [at, index]));
  const onWalk = new Uint8Array(entries.length);
  const back = new Int32Array(entries.length);
  const loop = (at: number): AbiError =>
    new AbiError(AbiErrno.ELOOP, `the walk from the rule at ${at} comes round or leaves the table`);
  for (let hook = 0; hook < HOOK_COUNT; hook++) {
    if ((shape.validHooks & (1 << hook)) === 0) continue;
    let current = indexAt.get(shape.hookEntries[hook]!)!;
    back[current] = current;
    walk: for (;;) {
      const entry = entries[current]!;
      const visited = (entry.reach & (1 << hook)) !== 0;
      if (onWalk[current] !== 0) throw loop(entry.at);
      entry.reach |= 1 << hook;
      onWalk[current] = 1;
      const standard = entry.targetName === STANDARD_TARGET;
      if ((entry.unconditional && standard && entry.verdict < 0) || visited) {
        // Return: back through the last jump that was not to the next entry.
        let left: number;
        do {
          onWalk[current] = 0;
          left = current;
          current = back[current]!;
          if (current === left) break walk;
        } while (left === current + 1);
        if (current + 1 >= entries.length) throw loop(entry.at);
        back[current + 1] = current;
        current++;
        continue;
      }
      let next: number | undefined;
      if (standard && entry.verdict >= 0) next = indexAt.get(entry.verdict);
      else if (entry.at + entry.bytes < size) next = current + 1;
      if (next === undefined) throw loop(entry.at);
      back[next] = current;
      current = next;
    }
  }
}
