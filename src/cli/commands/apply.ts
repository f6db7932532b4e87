import { HOOK_NAMES, type HookName } from '../../compile/index.ts';
import {
  type ApplyFragments,
  type ApplyReport,
  type ApplyRequest,
  applyPolicy,
  askForOffload,
  MAX_ORDER,
  planPolicy,
} from '../../host/index.ts';
import type { Command, Invocation } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { changeLines } from '../output/changes.ts';
import { counted } from '../output/count.ts';
import { DEFAULT_POLICY, NETNS_OPTION, OFFLOAD_OPTION, POLICY_OPTION } from '../policies.ts';
import {
  RULE_FILE_ARGUMENT,
  RULE_FILES,
  type RuleFile,
  readRuleFiles,
  refusing,
  refusingLater,
  requireOnePolicy,
} from '../rulesets.ts';
import { requireSets, SETS_OPTION } from '../sets.ts';

const FRAGMENTS = ['reassemble', 'drop', 'first-only', 'track'] as const;
const XDP_MODES = ['auto', 'native', 'generic'] as const;
const LONGEST_CONFIRM_S = 86_400;

/** What a command line asks for. */
export function requestFrom(
  invocation: Invocation,
  files: readonly RuleFile[],
  sets?: ApplyRequest['sets'],
): ApplyRequest {
  const hooks = invocation.list('hook') as readonly HookName[];
  const cgroup = invocation.text('cgroup');
  const order = invocation.number('priority', { min: 0, max: MAX_ORDER });
  const fragments = invocation.text('fragments') as ApplyFragments | undefined;
  const xdpMode = invocation.text('xdp-mode') as ApplyRequest['xdpMode'];
  const tcxPosition = invocation.text('tcx-position') as ApplyRequest['tcxPosition'];
  const confirmSeconds = invocation.number('confirm', { min: 1, max: LONGEST_CONFIRM_S });
  return {
    policy: invocation.text('policy') ?? DEFAULT_POLICY,
    rulesets: files.map(({ ruleset }) => ruleset),
    hooks: hooks.length === 0 ? ['netfilter'] : [...new Set(hooks)],
    namespaces: invocation.list('netns'),
    devices: [...new Set(invocation.list('dev'))],
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(order === undefined ? {} : { order }),
    ...(fragments === undefined ? {} : { fragments }),
    ...(xdpMode === undefined ? {} : { xdpMode }),
    ...(tcxPosition === undefined ? {} : { tcxPosition }),
    ...(confirmSeconds === undefined ? {} : { confirmSeconds }),
    ...(sets === undefined ? {} : { sets }),
    ownCounters: invocation.flag('counters'),
    allowPartial: invocation.flag('allow-partial'),
  };
}

/** What was done, in a few lines. */
function reportText(report: ApplyReport): string {
  const { programs, namespaces, times } = report;
  const places = namespaces.map(({ name }) => (name === '' ? 'this namespace' : name)).join(', ');
  const how =
    report.editedRules === undefined
      ? `${counted(programs.loaded, 'program')} loaded, ${programs.shared} shared, ${counted(report.linksMade, 'link')} made`
      : `${counted(report.editedRules, 'rule')} changed in its tables`;
  const lines = [
    `policy ${report.policy} is live in ${places}: ${how}; ` +
      `committed in ${times.commitUs.toFixed(0)} us, all in ${times.totalMs.toFixed(0)} ms`,
  ];
  if (report.notEdited !== undefined) lines.push(`its tables were made anew: ${report.notEdited}`);
  if (report.confirmBeforeMs !== undefined) {
    const time = new Date(report.confirmBeforeMs).toTimeString().slice(0, 8);
    lines.push(`confirm it before ${time} with: sluice confirm --policy ${report.policy}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Tells what was done, to people or programs. */
export async function tellApplied(
  report: ApplyReport,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<void> {
  for (const text of report.repaired) await environment.stderr.write(`note: ${text}\n`);
  for (const notice of report.notices) await environment.stderr.write(`note: ${notice}\n`);
  for (const text of report.weakened) await environment.stderr.write(`PARTIAL: ${text}\n`);
  await environment.stdout.write(
    invocation.flag('json')
      ? `${JSON.stringify({ apply: { version: 1, ...report } })}\n`
      : reportText(report),
  );
}

export const apply: Command = {
  name: 'apply',
  summary: 'make rules live, or replace those that are, on all hooks at once',
  description:
    'The rules are compiled first: what cannot be compiled is refused, and nothing changes. Then one store puts all of it in force.\n' +
    'Counters of rules that stay are kept. With --confirm, the rules before run again at the deadline unless sluice confirm comes first,\n' +
    'whether or not any process is left. A policy covers both families: give -4 and -6 files together.\n' +
    'With --sets the sets of the file come with the rules, all at once, and no others stay; without it live sets stay as they are.\n' +
    'Of the places among tcx programs, names and pins outlast a start of the machine, ids do not.\n' +
    'cgroup hooks serve sockets of the named namespaces; those of others in the cgroup are cut off.',
  arguments: [RULE_FILE_ARGUMENT],
  options: [
    ...RULE_FILES,
    SETS_OPTION,
    {
      long: 'hook',
      value: 'HOOK',
      repeatable: true,
      choices: HOOK_NAMES,
      completes: 'choices',
      summary: 'where it runs (netfilter)',
    },
    {
      long: 'dev',
      value: 'DEVICE',
      repeatable: true,
      completes: 'device',
      summary: 'device for xdp and tcx',
    },
    { ...NETNS_OPTION, repeatable: true },
    { long: 'cgroup', value: 'PATH', completes: 'file', summary: 'cgroup directory for the cgroup hooks' },
    { ...POLICY_OPTION, summary: `name of the policy (${DEFAULT_POLICY})` },
    {
      long: 'priority',
      value: 'PLACE',
      summary: `place among the policies at one hook, 0 (first) to ${MAX_ORDER} (the lowest that is free)`,
    },
    {
      long: 'fragments',
      value: 'STRATEGY',
      choices: FRAGMENTS,
      completes: 'choices',
      summary: 'what becomes of fragments (netfilter: reassemble, xdp and tcx: drop)',
    },
    {
      long: 'xdp-mode',
      value: 'MODE',
      choices: XDP_MODES,
      completes: 'choices',
      summary: 'where xdp programs run: in the driver, in the stack (auto: in the driver where it can)',
    },
    {
      long: 'tcx-position',
      value: 'POSITION',
      summary:
        'where tcx programs stand among those of others that are there: first, last (the default), before:WHAT or after:WHAT, WHAT a name, program/ID, link/ID or the path of a pin',
    },
    OFFLOAD_OPTION,
    { long: 'confirm', value: 'SECONDS', summary: 'go back unless confirmed within this time' },
    { long: 'counters', short: 'c', summary: "start with the files' counters" },
    { long: 'allow-partial', summary: 'replace rules that cannot be compiled by what is at least as strict' },
    { long: 'dry-run', summary: 'show what would change' },
  ],
  examples: [
    { line: 'sluice apply -4 rules.v4 -6 rules.v6 --confirm 60', says: 'replace both, with a way back' },
    { line: 'sluice apply rules.v4 --hook xdp --dev eth0 --policy edge', says: 'at the driver of eth0' },
    {
      line: 'sluice apply rules.v4 --hook tcx-ingress --dev eth0 --tcx-position before:cil_from_netdev',
      says: 'before the program of that name',
    },
  ],
  async run(invocation, environment) {
    const files = await readRuleFiles(invocation, environment);
    requireOnePolicy(files);
    const request = requestFrom(invocation, files, await requireSets(invocation, environment));
    if (invocation.flag('offload')) askForOffload(request);
    const json = invocation.flag('json');
    if (invocation.flag('dry-run')) {
      const plan = refusing(files, () => planPolicy(request));
      if (json) {
        await environment.stdout.write(`${JSON.stringify({ plan: { version: 1, ...plan } })}\n`);
        return ExitCode.OK;
      }
      for (const { name, changes, linksToMake, linksToRemove } of plan.namespaces) {
        const links = [
          ...linksToMake.map((link) => `+ ${link}`),
          ...linksToRemove.map((link) => `- ${link}`),
        ];
        await environment.stdout.write(
          `${name === '' ? 'this namespace' : name}: ${counted(plan.programs, 'program')}, ${plan.instructions} instructions\n` +
            `${links.map((link) => `  link ${link}\n`).join('')}${changeLines(changes)}`,
        );
      }
      for (const notice of plan.notices) await environment.stderr.write(`note: ${notice}\n`);
      return ExitCode.OK;
    }
    const report = await refusingLater(files, applyPolicy(request));
    await tellApplied(report, invocation, environment);
    return ExitCode.OK;
  },
};
