/** Policies that live in the kernel. */
export {
  type ApplyFragments,
  type ApplyReport,
  type ApplyRequest,
  applyPolicy,
} from './apply.ts';
export { counterKeys } from './carry.ts';
export { collectGarbage, confirmPolicy, refreshPolicies, removePolicies, zeroCounters } from './change.ts';
export type { StepListener } from './commit.ts';
export { type Change, diffRulesets } from './difference.ts';
export { countPrograms, type GenerationDocument, type KernelAids } from './document.ts';
export { POLICY_CODES, PolicyError, type PolicyErrorCode } from './error.ts';
export { followAddresses } from './follow.ts';
export { buildId } from './identity.ts';
export { MAX_ORDER } from './links.ts';
export { livePrograms, liveTables } from './listing.ts';
export { type LogEvent, LogReader, logLine } from './log.ts';
export { askForOffload, type OffloadRequest, offloadAnswer } from './offload.ts';
export { listOtherFirewalls, type OtherFirewall, runningRules } from './others.ts';
export { checkPolicyName, policyNames, withPolicyLock } from './place.ts';
export { type ApplyPlan, planPolicy } from './plan.ts';
export { policyAt, type Restored, restorePolicy } from './restore.ts';
export type { ChainState } from './rulestate.ts';
export { createLiveSet, destroyLiveSet, type LiveSet, liveSet, liveSets } from './sets.ts';
export { type LivePolicy, livePolicies, requireLive, type Selection } from './state.ts';
export { closeTargets, openTargets, type Target } from './target.ts';
export { type ChainCounts, type LivePlace, WatchedPolicy } from './watched.ts';
