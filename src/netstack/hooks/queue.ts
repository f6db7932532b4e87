/**
 * NF_QUEUE: packets handed to user space, and their way back.
 * Source: net/netfilter/nf_queue.c, net/netfilter/nfnetlink_queue.c (nf_reinject).
 */
import { Errno } from '../errno.ts';
import type { SkBuff } from '../skb.ts';
import type { HookEntries } from './entries.ts';
import { NF_INET_LOCAL_OUT, NFPROTO_BRIDGE, NFPROTO_IPV4, NFPROTO_IPV6 } from './family.ts';
import type { NfHookState } from './state.ts';
import {
  NF_ACCEPT,
  NF_DROP,
  NF_QUEUE,
  NF_REPEAT,
  NF_STOLEN,
  NF_STOP,
  NF_VERDICT_FLAG_QUEUE_BYPASS,
  NF_VERDICT_MASK,
  verdictQueue,
} from './verdict.ts';

/** One packet that waits for a verdict (struct nf_queue_entry). */
export interface QueueEntry {
  readonly skb: SkBuff;
  readonly state: NfHookState;
  /** Place of the hook that queued it. */
  readonly hookIndex: number;
  /** What the route of a locally made packet was chosen by; `undefined` at other hooks. */
  readonly routeKey: RouteKey | undefined;
}

/** Changing any of these between queueing and verdict makes the packet be routed again. */
export interface RouteKey {
  readonly tos: number;
  readonly mark: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Whoever takes queued packets (nf_queue_handler). */
export interface QueueHandler {
  /** Takes the entry, returns 0; or leaves it and returns -errno: ESRCH when nobody listens on `queueNumber`. */
  enqueue(entry: QueueEntry, queueNumber: number): number;
  /** Drop everything queued: a hook function went. */
  flush(): void;
}

/** The namespace around the queue. */
export interface QueueWorld {
  readonly handler: QueueHandler | undefined;
  /** The functions at a hook now. */
  entries(pf: number, hooknum: number): HookEntries;
  free(skb: SkBuff, state: NfHookState): void;
  /** ip_route_me_harder: 0, or -errno when there is no route. */
  reroute(skb: SkBuff, state: NfHookState): number;
}

/**
 * Queues a packet as an NF_QUEUE verdict asks (nf_queue).
 * @returns 1 when nobody listens and the verdict allows to go on without; else 0: queued, or freed
 */
export function nfQueue(
  world: QueueWorld,
  skb: SkBuff,
  state: NfHookState,
  index: number,
  verdict: number,
): number {
  const entry: QueueEntry = { skb, state, hookIndex: index, routeKey: routeKey(skb, state) };
  const status = world.handler?.enqueue(entry, verdictQueue(verdict)) ?? -Errno.ESRCH;
  if (status >= 0) return 0;
  if (status === -Errno.ESRCH && (verdict & NF_VERDICT_FLAG_QUEUE_BYPASS) !== 0) return 1;
  world.free(skb, state);
  return 0;
}

/** A queued packet comes back with a verdict (nf_reinject). The packet may have been changed meanwhile. */
export function nfReinject(world: QueueWorld, entry: QueueEntry, verdict: number): void {
  const { skb, state } = entry;
  // Only these families can find their way back; the list is read again, because it may have changed.
  const known = state.pf === NFPROTO_IPV4 || state.pf === NFPROTO_IPV6 || state.pf === NFPROTO_BRIDGE;
  const entries = known ? world.entries(state.pf, state.hook) : [];
  let index = entry.hookIndex;
  const from = entries[index];
  if (from === undefined) {
    world.free(skb, state);
    return;
  }
  let next = verdict;
  if (next === NF_REPEAT) next = from.hook(from.priv, skb, state);
  if (next === NF_ACCEPT && needsReroute(entry) && world.reroute(skb, state) < 0) next = NF_DROP;
  let goOn = next === NF_ACCEPT;
  for (;;) {
    if (goOn) [next, index] = iterate(entries, index + 1, skb, state);
    switch (next & NF_VERDICT_MASK) {
      case NF_ACCEPT:
      case NF_STOP:
        state.okfn(skb);
        return;
      case NF_QUEUE:
        if (nfQueue(world, skb, state, index, next) !== 1) return;
        goOn = true;
        break;
      case NF_STOLEN:
        return;
      default:
        world.free(skb, state);
        return;
    }
  }
}

/** Runs on until one does not accept; here, unlike in nf_hook_slow, a function may ask to be called again. */
function iterate(entries: HookEntries, start: number, skb: SkBuff, state: NfHookState): [number, number] {
  for (let index = start; index < entries.length; index++) {
    const { hook, priv } = entries[index]!;
    let verdict = hook(priv, skb, state);
    while (verdict === NF_REPEAT) verdict = hook(priv, skb, state);
    if (verdict !== NF_ACCEPT) return [verdict, index];
  }
  return [NF_ACCEPT, entries.length];
}

function routeKey(skb: SkBuff, state: NfHookState): RouteKey | undefined {
  if (state.hook !== NF_INET_LOCAL_OUT) return undefined;
  const { data, mark } = skb;
  if (state.pf === NFPROTO_IPV4 && data.length >= 20)
    return { tos: data[1]!, mark, source: data.slice(12, 16), destination: data.slice(16, 20) };
  if (state.pf === NFPROTO_IPV6 && data.length >= 40)
    return { tos: 0, mark, source: data.slice(8, 24), destination: data.slice(24, 40) };
  return undefined;
}

function needsReroute(entry: QueueEntry): boolean {
  const before = entry.routeKey;
  if (before === undefined) return false;
  const now = routeKey(entry.skb, entry.state);
  return (
    now === undefined ||
    now.tos !== before.tos ||
    now.mark !== before.mark ||
    !now.source.every((byte, at) => byte === before.source[at]) ||
    !now.destination.every((byte, at) => byte === before.destination[at])
  );
}
