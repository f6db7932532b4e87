/**
 * The conntrack enable table. Connection tracking is off in a namespace until something needs it; netfilter programs
 * that read `skb->_nfct` do not count as need. A table with one rule that reads the connection state does, even in a
 * chain that no packet enters (nf_ct_netns_get in net/netfilter/nft_ct.c).
 */
import { Errno } from '../sys/errno.ts';
import { isErrno } from '../sys/error.ts';
import { readConntrackState } from './expression.ts';
import { countNftRules, NftTransaction } from './transaction.ts';

const CHAIN = 'need_conntrack';

/** Switches tracking on (IPv4 and IPv6) in the calling thread's namespace, or mends the table: no instant without it. */
export function enableConntrack(table: string): void {
  new NftTransaction('inet', table)
    .addTable()
    .addChain({ name: CHAIN })
    .flushChain(CHAIN)
    .addRule(CHAIN, [readConntrackState()])
    .commit();
}

/** Gives up our need; tracking stays on while others need it. False: the table was not there. */
export function disableConntrack(table: string): boolean {
  try {
    new NftTransaction('inet', table).deleteTable().commit();
    return true;
  } catch (error) {
    if (isErrno(error, Errno.ENOENT)) return false;
    throw error;
  }
}

/** True while our table holds conntrack on; false after somebody's `nft flush ruleset`. */
export function conntrackEnabled(table: string): boolean {
  return (countNftRules('inet', table, CHAIN) ?? 0) > 0;
}
