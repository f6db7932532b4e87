import type { SetKey } from './predicate.ts';

/** What a rule does once all its predicates are true and its counter has moved. */
export type Action =
  | { readonly kind: 'accept' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'return' }
  /** No target: count and go on. */
  | { readonly kind: 'continue' }
  | { readonly kind: 'jump'; readonly chain: string }
  | { readonly kind: 'goto'; readonly chain: string }
  /** Answer the sender, then drop. `with` is the kernel's enum ipt_reject_with or ip6t_reject_with. */
  | { readonly kind: 'reject'; readonly with: number }
  /** Syslog level, IPT_LOG_* flags, prefix; then go on. */
  | { readonly kind: 'log'; readonly level: number; readonly flags: number; readonly prefix: string }
  /** skb->mark = (skb->mark & ~mask) ^ value; then go on. */
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  /**
   * Adds the packet's key to the first of some sets that takes it, then takes it out of the first of others that has it; then
   * go on.
   */
  | {
      readonly kind: 'set';
      readonly add?: {
        readonly keys: readonly SetKey[];
        readonly exist: boolean;
        readonly timeoutSec: number | undefined;
      };
      readonly remove?: { readonly keys: readonly SetKey[] };
      /** What no program can do: an entry's mark, class or queue become the packet's. */
      readonly map: boolean;
    };

/** What `-j SET` does. */
export type SetAction = Extract<Action, { kind: 'set' }>;

/** The keys that it adds to sets and takes out of them. */
export function changedKeys({ add, remove }: SetAction): readonly SetKey[] {
  return [...(add?.keys ?? []), ...(remove?.keys ?? [])];
}

/** True for actions after which no later rule of the walk is looked at because of this action alone. */
export function isTerminal(action: Action): boolean {
  return action.kind === 'accept' || action.kind === 'drop' || action.kind === 'reject';
}
