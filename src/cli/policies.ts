/** Options and words that the commands about live policies share. */
import type { ApplyRequest, LivePolicy, Selection } from '../host/index.ts';
import { closeTargets, openTargets } from '../host/index.ts';
import type { CommandOption, Invocation } from './command.ts';

export const POLICY_OPTION: CommandOption = {
  long: 'policy',
  value: 'NAME',
  summary: 'name of the policy',
};
export const NETNS_OPTION: CommandOption = {
  long: 'netns',
  value: 'NAME|PATH|PID',
  completes: 'netns',
  summary: 'the network namespace, if not the one of this process',
};
export const OFFLOAD_OPTION: CommandOption = {
  long: 'offload',
  summary: 'ask the devices to run the rules themselves, and say what they answer; nothing is changed',
};

export const DEFAULT_POLICY = 'main';

/** Which policies a command is about: those of the namespace, of the name if one is given. */
export function selectionOf(invocation: Invocation): Selection {
  return { policy: invocation.text('policy'), cookie: cookieOf(invocation.text('netns')) };
}

function cookieOf(netns: string | undefined): bigint {
  const targets = openTargets(netns === undefined ? [] : [netns], []);
  try {
    return targets[0]!.cookie;
  } finally {
    closeTargets(targets);
  }
}

/** "main in web1", "main in this namespace". */
export function policyTitle({ policy, netns }: LivePolicy): string {
  return `${policy} in ${netns.name === '' ? `namespace ${netns.inode}` : netns.name}`;
}

/** How a live policy was applied, to apply it again. */
export function requestOf({ policy, order, netns, document, rulesets }: LivePolicy): ApplyRequest {
  const { hooks, devices, cgroup, fragments, allowPartial, manner } = document;
  return {
    policy,
    order,
    rulesets,
    hooks,
    devices,
    namespaces: netns.name === '' ? [] : [netns.name],
    allowPartial,
    ownCounters: true,
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(fragments === undefined ? {} : { fragments }),
    ...(hooks.includes('xdp') ? { xdpMode: manner.xdpMode } : {}),
    ...(hooks.some((hook) => hook.startsWith('tcx')) ? { tcxPosition: manner.tcxPosition } : {}),
  };
}
