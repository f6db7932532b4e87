/** A table as the kernel hands it out: the answers to GET_INFO and GET_ENTRIES (struct ipt_getinfo, ipt_get_entries). */
import type { Family } from '../../net/index.ts';
import type { Chain, Counters, Table } from '../model.ts';
import { countedEntries } from './counters.ts';
import { decodeTable } from './decode.ts';
import { refuse } from './errno.ts';
import { ENTRY_LAYOUTS } from './layout.ts';
import { decodeInfo, GET_ENTRIES_BYTES } from './requests.ts';

/**
 * The rules with their counters; `info` and `entries` as getsockopt(2) filled them.
 * @throws {AbiError} for what no rule can say, or an extension that is not known
 */
export function decodeRunningTable(info: Uint8Array, entries: Uint8Array, family: Family): Table {
  const about = decodeInfo(info);
  const raw = entries.subarray(GET_ENTRIES_BYTES);
  if (raw.length !== about.size) refuse(`table ${about.table} has ${about.size} bytes, not ${raw.length}`);
  const { table, offsets } = decodeTable(raw, about, family);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const at = ENTRY_LAYOUTS[family].counters;
  const counters = new Map<Counters, Counters>();
  for (const [index, counted] of countedEntries(table).entries()) {
    if (counted === undefined) continue;
    const offset = offsets[index]! + at;
    counters.set(counted, {
      packets: view.getBigUint64(offset, true),
      bytes: view.getBigUint64(offset + 8, true),
    });
  }
  const own = <T extends { readonly counters: Counters }>(counted: T): T => ({
    ...counted,
    counters: counters.get(counted.counters) ?? counted.counters,
  });
  const chains = table.chains.map((chain): Chain => ({ ...own(chain), rules: chain.rules.map(own) }));
  return { ...table, chains };
}
