/** Tables as they lie in an arena: read by those who edit them. */
import type { Family } from '../../../net/index.ts';
import { Generation } from '../../arena/layout.ts';
import type { MarkChanges } from '../../emit/emission.ts';
import {
  CHAIN_SIZE,
  Chain,
  ENTRY_LISTS,
  Entry,
  RULE_RECORD_SHIFT,
  RuleAction,
  RuleRecord,
  TablesHeader,
} from './layout.ts';

/** Memory, and the pointer to its first byte. */
export interface ArenaBytes {
  readonly bytes: Uint8Array;
  readonly base: number;
}

/** A part of a chain: rules of records `first` to `count`. */
export interface LivePart {
  readonly pointer: number;
  readonly kind: number;
  readonly rules: number;
  readonly first: number;
  readonly count: number;
}

export interface LiveEntry {
  /** Place of the attach point (entryIndex). */
  readonly place: number;
  readonly family: Family;
  readonly pointer: number;
}

export class LiveTables {
  /** Pointer to the generation. */
  readonly root: number;
  readonly memory: ArenaBytes;
  readonly #view: DataView;

  constructor(memory: ArenaBytes, root: number) {
    this.root = root;
    this.memory = memory;
    this.#view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.byteLength);
  }

  u32(pointer: number): number {
    return this.#view.getUint32(pointer - this.memory.base, true);
  }

  setU32(pointer: number, value: number): void {
    this.#view.setUint32(pointer - this.memory.base, value, true);
  }

  setU64(pointer: number, value: bigint): void {
    this.#view.setBigUint64(pointer - this.memory.base, BigInt.asUintN(64, value), true);
  }

  copy(pointer: number, length: number): Uint8Array {
    const at = pointer - this.memory.base;
    return this.memory.bytes.slice(at, at + length);
  }

  write(pointer: number, bytes: Uint8Array): void {
    this.memory.bytes.set(bytes, pointer - this.memory.base);
  }

  /** Pointer to the tables; 0: the generation has none. */
  get header(): number {
    return this.u32(this.root + Generation.tables);
  }

  get chainCount(): number {
    return this.u32(this.header + TablesHeader.chainCount);
  }

  /** Pointers to the chains' first parts, by number. */
  get chains(): number {
    return this.u32(this.header + TablesHeader.chains);
  }

  /** Pointer to the first part of a chain. */
  firstPart(chain: number): number {
    return this.u32(this.chains + chain * 4);
  }

  parts(chain: number): LivePart[] {
    const parts: LivePart[] = [];
    for (let pointer = this.firstPart(chain); pointer !== 0; pointer = this.u32(pointer + Chain.next)) {
      parts.push({
        pointer,
        kind: this.u32(pointer + Chain.kind),
        rules: this.u32(pointer + Chain.rules),
        first: this.u32(pointer + Chain.first),
        count: this.u32(pointer + Chain.count),
      });
    }
    return parts;
  }

  partBytes(part: LivePart): Uint8Array {
    return this.copy(part.pointer, CHAIN_SIZE);
  }

  /** Numbers of the chains that a chain's rules jump or go to. */
  calls(chain: number): Set<number> {
    return this.#calledAt(this.parts(chain), [{ from: 0, to: Number.POSITIVE_INFINITY }]);
  }

  /** Those of a chain's calls that its rules at these places make. */
  remainingCalls(
    parts: readonly LivePart[],
    kept: readonly { readonly from: number; readonly to: number }[],
    calls: ReadonlySet<number>,
  ): ReadonlySet<number> {
    const count = parts.reduce((sum, part) => sum + part.count - part.first, 0);
    const gone = this.#calledAt(parts, gaps(kept, count));
    // Mostly no rule that calls has gone: the others need not be looked at.
    return gone.size === 0 ? calls : this.#calledAt(parts, kept);
  }

  #calledAt(
    parts: readonly LivePart[],
    places: readonly { readonly from: number; readonly to: number }[],
  ): Set<number> {
    const called = new Set<number>();
    for (const { from, to } of places) {
      let behind = 0;
      for (const { rules, first, count } of parts) {
        const start = first - behind;
        behind += count - first;
        for (let index = Math.max(first, from + start); index < Math.min(count, to + start); index++) {
          const record = rules + (index << RULE_RECORD_SHIFT);
          const action = this.u32(record + RuleRecord.action);
          if (action === RuleAction.jump || action === RuleAction.goto)
            called.add(this.u32(record + RuleRecord.a));
        }
      }
    }
    return called;
  }

  /** What rules do to marks. */
  get marks(): MarkChanges {
    const { header } = this;
    return {
      bits: this.u32(header + TablesHeader.markBits),
      whole: this.u32(header + TablesHeader.markWhole) !== 0,
    };
  }

  /** What attach points run. */
  entries(): LiveEntry[] {
    const entries: LiveEntry[] = [];
    for (let index = 0; index < ENTRY_LISTS; index++) {
      const pointer = this.u32(this.header + TablesHeader.entries + index * 4);
      const family = index % 2 === 0 ? 'ipv4' : 'ipv6';
      if (pointer !== 0) entries.push({ place: index >> 1, family, pointer });
    }
    return entries;
  }

  /** Numbers of the built-in chains of an entry. */
  roots(entry: LiveEntry): number[] {
    const roots: number[] = [];
    for (const list of [Entry.before, Entry.local, Entry.forward]) {
      for (let at = this.u32(entry.pointer + list); this.u32(at) !== 0; at += 4) roots.push(this.u32(at));
    }
    return roots;
  }
}

/** Places below `count` that none of these has, whatever their order. */
function gaps(
  places: readonly { readonly from: number; readonly to: number }[],
  count: number,
): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  let from = 0;
  for (const place of [...places].sort((a, b) => a.from - b.from)) {
    if (place.from > from) found.push({ from, to: place.from });
    from = Math.max(from, place.to);
  }
  if (from < count) found.push({ from, to: count });
  return found;
}
