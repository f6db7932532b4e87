/** Counters of a live policy by chain, read and moved without parsing its rules: what a driver of tables asks for often. */
import { findBpffs, requireKernel } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import type { Counters, TableName } from '../../rules/index.ts';
import { withPolicyLock } from './place.ts';
import { PolicyStore } from './store.ts';

/** One policy in one namespace. */
export interface LivePlace {
  readonly policy: string;
  readonly cookie: bigint;
}

export interface ChainCounts {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  /** In the order of the rules. */
  readonly rules: readonly Counters[];
  /** Of built-in chains. */
  readonly policy?: Counters;
}

interface Counter {
  counter(index: number): Counters;
  addCounter(index: number, value: Counters): void;
}

/** The chains with their counter indexes, and the generation that counts; `undefined` when the policy is not live there. */
function withLive<T>(
  { policy, cookie }: LivePlace,
  use: (chains: readonly ChainIndexes[], generation: Counter) => T,
): T | undefined {
  const bpffs = findBpffs();
  const store = bpffs === undefined ? undefined : PolicyStore.open(bpffs, policy);
  if (store === undefined) return undefined;
  try {
    const record = store.records.find(cookie);
    const document = record === undefined ? undefined : store.documentAt(record.running);
    if (record === undefined || document === undefined) return undefined;
    return use(document.chains, store.generation(record.running));
  } finally {
    store.close();
  }
}

interface ChainIndexes {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  readonly first: number;
  readonly rules: number;
  readonly policy?: number;
}

/** Counters of all chains now. */
export function chainCounts(place: LivePlace): readonly ChainCounts[] {
  const read = withLive(place, (chains, generation) =>
    chains.map(
      ({ family, table, chain, first, rules, policy }): ChainCounts => ({
        family,
        table,
        chain,
        rules: Array.from({ length: rules }, (_, index) => generation.counter(first + index)),
        ...(policy === undefined ? {} : { policy: generation.counter(policy) }),
      }),
    ),
  );
  return read ?? [];
}

/** Adds to counters, which may go on counting meanwhile; chains that are not there are passed over. */
export async function addToCounters(place: LivePlace, added: readonly ChainCounts[]): Promise<void> {
  requireKernel();
  await withPolicyLock(() => {
    withLive(place, (chains, generation) => {
      for (const { family, table, chain, rules, policy } of added) {
        const indexes = chains.find(
          (one) => one.family === family && one.table === table && one.chain === chain,
        );
        if (indexes === undefined) continue;
        for (const [index, value] of rules.entries())
          if (index < indexes.rules) generation.addCounter(indexes.first + index, value);
        if (policy !== undefined && indexes.policy !== undefined)
          generation.addCounter(indexes.policy, policy);
      }
    });
  });
}
