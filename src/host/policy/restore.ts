/**
 * Making rules live with the counters that they come with, while rules that are live count on: iptables-restore(8) on a
 * policy. A commit carries counters by the text of rules; what they had when the rules were read is then made up for, so
 * that packets that come meanwhile stay counted.
 */
import type { Family } from '../../net/index.ts';
import { type Chain, type Counters, printRule, type Ruleset } from '../../rules/index.ts';
import { type ApplyReport, type ApplyRequest, applyPolicy } from './apply.ts';
import type { StepListener } from './commit.ts';
import { withPolicyLock } from './place.ts';
import { type LivePolicy, livePolicies } from './state.ts';
import { type ChainCounts, type LivePlace, WatchedPolicy } from './watched.ts';

/** What becomes of a policy, of which `live` runs now, if it does; `ownCounters` is not looked at. */
export type Restored = (live: LivePolicy | undefined) => ApplyRequest;

/** The policy in the namespace, with its counters now. */
export function policyAt({ policy, cookie }: LivePlace): LivePolicy | undefined {
  return livePolicies({ policy, cookie })[0];
}

/**
 * Replaces a policy's rules, in one commit, by what `restored` says of those that are live: nobody changes them meanwhile.
 * @throws {CompileError} {PolicyError} {KernelError} as `applyPolicy`, and what `restored` throws; nothing has changed
 */
export async function restorePolicy(
  place: LivePlace,
  restored: Restored,
  step: StepListener = () => {},
): Promise<ApplyReport> {
  return await withPolicyLock(async () => {
    const live = policyAt(place);
    const request = restored(live);
    const report = await applyPolicy({ ...request, ownCounters: live === undefined }, step);
    if (live === undefined) return report;
    step('set counters');
    const watched = new WatchedPolicy(place);
    try {
      await watched.add(madeUp(live.rulesets, request.rulesets));
    } finally {
      watched.close();
    }
    return report;
  });
}

/** What counters shall be less what the commit has carried: those of the same text at the same turn in the same chain. */
function madeUp(before: readonly Ruleset[], after: readonly Ruleset[]): ChainCounts[] {
  const added: ChainCounts[] = [];
  for (const { family, tables } of after) {
    const known = before.find((ruleset) => ruleset.family === family)?.tables ?? [];
    for (const { name: table, chains } of tables) {
      const olds = known.find(({ name }) => name === table)?.chains ?? [];
      for (const chain of chains) {
        const old = olds.find(({ name }) => name === chain.name);
        added.push({ family, table, chain: chain.name, ...chainMadeUp(old, chain, family) });
      }
    }
  }
  return added;
}

function chainMadeUp(
  old: Chain | undefined,
  chain: Chain,
  family: Family,
): Pick<ChainCounts, 'rules' | 'policy'> {
  const carried = new Map<string, Counters[]>();
  for (const rule of old?.rules ?? []) {
    const text = printRule(rule, chain.name, family);
    const turns = carried.get(text);
    if (turns === undefined) carried.set(text, [rule.counters]);
    else turns.push(rule.counters);
  }
  const turnOf = new Map<string, number>();
  const rules = chain.rules.map((rule) => {
    const text = printRule(rule, chain.name, family);
    const turn = turnOf.get(text) ?? 0;
    turnOf.set(text, turn + 1);
    return less(rule.counters, carried.get(text)?.[turn]);
  });
  if (chain.policy === undefined) return { rules };
  return { rules, policy: less(chain.counters, old?.policy === chain.policy ? old.counters : undefined) };
}

function less(counters: Counters, carried: Counters | undefined): Counters {
  return {
    packets: counters.packets - (carried?.packets ?? 0n),
    bytes: counters.bytes - (carried?.bytes ?? 0n),
  };
}
