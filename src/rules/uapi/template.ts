/** Tables as a new network namespace has them: every policy ACCEPT, no rule (ipt_alloc_initial_table). */
import { HOOK_CHAINS } from '../../ir/index.ts';
import type { Table, TableName } from '../model.ts';
import { TABLE_HOOKS } from '../tables.ts';

export function emptyTable(name: TableName): Table {
  const span = { file: `table ${name}`, line: 1, column: 1, length: 1 };
  const chains = TABLE_HOOKS[name].map((hook) => ({
    name: HOOK_CHAINS[hook]!,
    policy: 'ACCEPT' as const,
    counters: { packets: 0n, bytes: 0n },
    rules: [],
    span,
  }));
  return { name, chains, span };
}
