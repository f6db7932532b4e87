/** The interpreter of hook lists. Source: net/netfilter/core.c, nf_hook_slow. */
import { Errno } from '../errno.ts';
import type { SkBuff } from '../skb.ts';
import type { HookEntries } from './entries.ts';
import type { NfHookState } from './state.ts';
import { NF_ACCEPT, NF_DROP, NF_QUEUE, NF_STOLEN, NF_VERDICT_MASK, verdictErrno } from './verdict.ts';

/** What a hook list needs of the world around it. */
export interface HookActions {
  /** kfree_skb with the reason NETFILTER_DROP. */
  free(skb: SkBuff, state: NfHookState): void;
  /**
   * Hands a packet to the queue that the verdict names; `index` is the place of the hook that wanted it.
   * @returns 1 when nobody listens and the verdict lets it pass, 0 when the packet is queued or freed
   */
  queue(skb: SkBuff, state: NfHookState, entries: HookEntries, index: number, verdict: number): number;
  /** A verdict that no hook function may return: a bug of that function. */
  warnVerdict(verdict: number, state: NfHookState): void;
}

/**
 * Runs the hook functions from index `start` on.
 *
 * @returns 1: every one accepted, the caller goes on (okfn). Negative: dropped, -errno. 0: consumed (stolen or queued)
 */
export function nfHookSlow(
  skb: SkBuff,
  state: NfHookState,
  entries: HookEntries,
  start: number,
  actions: HookActions,
): number {
  for (let index = start; index < entries.length; index++) {
    const { hook, priv } = entries[index]!;
    const verdict = hook(priv, skb, state);
    switch (verdict & NF_VERDICT_MASK) {
      case NF_ACCEPT:
        break;
      case NF_DROP:
        actions.free(skb, state);
        return verdictErrno(verdict) || -Errno.EPERM;
      case NF_QUEUE: {
        const result = actions.queue(skb, state, entries, index, verdict);
        if (result === 1) continue;
        return result;
      }
      case NF_STOLEN:
        return verdictErrno(verdict);
      default:
        // Only the queue may repeat or stop.
        actions.warnVerdict(verdict, state);
        return 0;
    }
  }
  return 1;
}
