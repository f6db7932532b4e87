/** Options without an argument, each a bit of one byte: `-m rpfilter`, `-m socket`. */
import type { OptionSpec } from '../extension.ts';
import { readFlags } from '../uapi/payload.ts';

/** In the order of printing, which is that of the bits, the lowest first. */
export type FlagTable<Flag extends string> = readonly (readonly [name: Flag, summary: string])[];

export function flagOptions<Flag extends string>(table: FlagTable<Flag>): OptionSpec<Set<Flag>>[] {
  return table.map(([name, summary]) => ({
    name,
    arguments: 0,
    summary,
    apply(state) {
      state.add(name);
    },
  }));
}

export function printFlags<Flag extends string>(table: FlagTable<Flag>, state: ReadonlySet<Flag>): string {
  return table
    .filter(([name]) => state.has(name))
    .map(([name]) => ` --${name}`)
    .join('');
}

/** @throws {AbiError} where a bit is set that the table does not have */
export function decodeFlags<Flag extends string>(
  table: FlagTable<Flag>,
  view: DataView,
  offset: number,
  what: string,
): Set<Flag> {
  const flags = readFlags(view, offset, 2 ** table.length - 1, what);
  return new Set(table.filter((_, bit) => (flags & (1 << bit)) !== 0).map(([name]) => name));
}

export function encodeFlags<Flag extends string>(table: FlagTable<Flag>, state: ReadonlySet<Flag>): number {
  return table.reduce((sum, [name], bit) => (state.has(name) ? sum | (1 << bit) : sum), 0);
}
