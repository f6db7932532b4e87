/** Which rule or policy each entry of a table is: entries stand in the order of chains, and so do counters. */
import type { Chain, Counters, Table } from '../model.ts';

/**
 * The counted thing of each entry, in order; `undefined` for heads of chains, the RETURN at their ends, and the last
 * entry. The table is one that {@link decodeTable} gave, or has its built-in chains first in hook order.
 */
export function countedEntries(table: Table): readonly (Counters | undefined)[] {
  const counted: (Counters | undefined)[] = [];
  const add = (chain: Chain): void => {
    for (const { counters } of chain.rules) counted.push(counters);
    counted.push(chain.policy === undefined ? undefined : chain.counters);
  };
  for (const chain of table.chains) {
    if (chain.policy === undefined) counted.push(undefined);
    add(chain);
  }
  counted.push(undefined);
  return counted;
}
