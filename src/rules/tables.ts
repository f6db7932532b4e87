/** The tables of iptables and the hooks each has chains at (net/ipv4/netfilter/iptable_*.c, net/ipv6/netfilter/ip6table_*.c). */
import { HOOK_CHAINS, Hook } from '../ir/index.ts';
import type { TableName } from './model.ts';

export const TABLE_NAMES: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter', 'security'];

/** Hooks of each table, in the order iptables lists its chains. */
export const TABLE_HOOKS: Readonly<Record<TableName, readonly Hook[]>> = {
  raw: [Hook.PRE_ROUTING, Hook.LOCAL_OUT],
  mangle: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING],
  nat: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.LOCAL_OUT, Hook.POST_ROUTING],
  filter: [Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT],
  security: [Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT],
};

export function isTableName(text: string): text is TableName {
  return (TABLE_NAMES as readonly string[]).includes(text);
}

/** The hook of a table's built-in chain; `undefined` for any other name. */
export function builtinHook(table: TableName, chain: string): Hook | undefined {
  return TABLE_HOOKS[table].find((hook) => HOOK_CHAINS[hook] === chain);
}

/** Names of a table's built-in chains. */
export function builtinChains(table: TableName): readonly string[] {
  return TABLE_HOOKS[table].map((hook) => HOOK_CHAINS[hook]!);
}
