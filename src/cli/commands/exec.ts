import { mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { HOOK_NAMES, type HookName } from '../../compile/index.ts';
import {
  askForOffload,
  closeTargets,
  findLegacyProgram,
  LiveEngine,
  MemoryEngine,
  openTargets,
  Shims,
  supervise,
  TableStore,
} from '../../host/index.ts';
import type { Family } from '../../net/index.ts';
import { printRuleset } from '../../rules/index.ts';
import { type Command, type Invocation, UsageError } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { DEFAULT_POLICY, NETNS_OPTION, OFFLOAD_OPTION, POLICY_OPTION } from '../policies.ts';
import { RULE_FILES, readRuleFiles, requireOnePolicy } from '../rulesets.ts';
import { requireSets, SETS_OPTION } from '../sets.ts';

const SUFFIXES: readonly (readonly [Family, string])[] = [
  ['ipv4', '.v4'],
  ['ipv6', '.v6'],
];

/** The policy that the command left: files, or standard output. */
async function tellPolicy(
  store: TableStore,
  exitCode: number,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<void> {
  const policies = SUFFIXES.map(([family, suffix]) => {
    const ruleset = store.ruleset(family);
    return { family, suffix, tables: ruleset.tables.length, text: printRuleset(ruleset, { counters: true }) };
  }).filter(({ tables }) => tables > 0);
  const prefix = invocation.text('save');
  if (prefix !== undefined)
    for (const { suffix, text } of policies) await writeFile(`${prefix}${suffix}`, text);
  if (invocation.flag('json')) {
    const exec = { version: 1, exitCode, policies: policies.map(({ family, text }) => ({ family, text })) };
    await environment.stdout.write(`${JSON.stringify({ exec })}\n`);
  } else if (prefix === undefined) {
    for (const { family, text } of policies)
      await environment.stdout.write(`# ${family === 'ipv4' ? 'IPv4' : 'IPv6'}\n${text}`);
  }
}

/** Runs a command in namespaces of its own; the policy it makes lives here until it is told. */
async function inNetstack(invocation: Invocation, environment: CliEnvironment): Promise<number> {
  const given = [...invocation.list('4'), ...invocation.list('6')].length > 0;
  const files = given ? await readRuleFiles(invocation, environment) : [];
  requireOnePolicy(files);
  const sets = await requireSets(invocation, environment);
  const store = new TableStore(new MemoryEngine(sets));
  for (const { ruleset } of files) await store.load(ruleset);
  const shims = new Shims(findLegacyProgram(environment.variables));
  const others = new Map<bigint, TableStore>();
  try {
    const exitCode = await supervise({
      argv: invocation.rest,
      variables: environment.variables,
      store,
      storeOf(netnsCookie) {
        const made = others.get(netnsCookie) ?? new TableStore(new MemoryEngine());
        others.set(netnsCookie, made);
        return made;
      },
      shims,
      netns: { fresh: true },
      allowNetlink: invocation.flag('allow-netlink'),
      say: (line) => void environment.stderr.write(`sluice: ${line}\n`),
    });
    await tellPolicy(store, exitCode, invocation, environment);
    return exitCode;
  } finally {
    shims.remove();
  }
}

/** Where locks of the programs lie: one file for all commands that drive the policies of a namespace. */
const LOCK_FOLDER = '/run/sluice';

/** What runs against a live policy. */
export interface LiveCommand {
  readonly argv: readonly string[];
  readonly policy: string;
  readonly hooks: readonly HookName[];
  readonly devices: readonly string[];
  readonly netns: string | undefined;
  readonly allowNetlink: boolean;
}

/** Runs a command whose tables are a live policy of its namespace. */
export async function onLivePolicy(command: LiveCommand, environment: CliEnvironment): Promise<number> {
  const { argv, policy, hooks, devices, netns, allowNetlink } = command;
  const program = findLegacyProgram(environment.variables);
  const targets = openTargets(netns === undefined ? [] : [netns], devices);
  const { cookie } = targets[0]!;
  closeTargets(targets);
  const engine = new LiveEngine({ policy, hooks, devices, netns, netnsCookie: cookie });
  mkdirSync(LOCK_FOLDER, { recursive: true });
  const shims = new Shims(program);
  const say = (line: string): void => void environment.stderr.write(`sluice: ${line}\n`);
  try {
    const exitCode = await supervise({
      argv,
      variables: environment.variables,
      store: new TableStore(engine),
      shims,
      netns: netns === undefined ? undefined : { name: netns },
      allowNetlink,
      lockFile: `${LOCK_FOLDER}/xtables-${cookie}.lock`,
      say,
    });
    await engine
      .settle()
      .catch((error: Error) => say(`the rules stay tables, though few enough to be code: ${error.message}`));
    return exitCode;
  } finally {
    shims.remove();
  }
}

export const exec: Command = {
  name: 'exec',
  summary: 'run a command whose iptables calls make a policy of Sluice',
  description: [
    'Runs the command, unmodified, with the legacy iptables programs first in its PATH. What they would tell the kernel',
    'is answered here instead: the tables of this machine are neither read nor changed.',
    'By default each change is compiled and put in force as the live policy of the namespace, and refused where it cannot be.',
    'With --engine netstack the command runs in user and network namespaces of its own, without privilege; the policy it',
    'leaves is printed as iptables-save prints it, or saved. Exit code: that of the command. SIGTERM, SIGHUP and interrupts',
    'are handed on to the command, whose calls are answered until it has ended.',
  ].join('\n'),
  arguments: [],
  options: [
    {
      long: 'engine',
      value: 'NAME',
      choices: ['kernel', 'netstack'],
      completes: 'choices',
      summary:
        'where the policy lives: kernel (live in the namespace; the default) or netstack (in this process)',
    },
    POLICY_OPTION,
    NETNS_OPTION,
    {
      long: 'hook',
      value: 'HOOK',
      repeatable: true,
      choices: HOOK_NAMES,
      completes: 'choices',
      summary: 'where a live policy runs; netfilter when not given',
    },
    {
      long: 'dev',
      value: 'DEVICE',
      repeatable: true,
      completes: 'device',
      summary: 'a device for the hooks xdp, tcx-ingress and tcx-egress',
    },
    OFFLOAD_OPTION,
    ...RULE_FILES,
    SETS_OPTION,
    {
      long: 'save',
      value: 'PREFIX',
      completes: 'file',
      summary: 'write the policy with its counters to PREFIX.v4 and PREFIX.v6 instead of printing it',
    },
    {
      long: 'allow-netlink',
      summary: "let the command use netfilter's netlink (nft, ipset, iptables-nft) in its namespace",
    },
  ],
  examples: [
    {
      line: 'sluice exec --netns web1 -- iptables -A INPUT -p tcp --dport 22 -j ACCEPT',
      says: "add a rule to the live policy of a namespace, with iptables' own words",
    },
    {
      line: 'sluice exec --engine netstack -- ./firewall.sh',
      says: 'what policy does the script make? Nothing of it reaches this machine',
    },
    {
      line: 'sluice exec --engine netstack -4 rules.v4 --save new -- iptables -A INPUT -p tcp --dport 22 -j ACCEPT',
      says: 'change saved rules with iptables itself: the result is new.v4',
    },
  ],
  async run(invocation, environment) {
    if (invocation.rest.length === 0)
      throw new UsageError('no command given', 'put it after "--": sluice exec -- ./firewall.sh');
    if (invocation.text('engine') === 'netstack') {
      if (invocation.flag('offload'))
        throw new UsageError('--offload goes with a live policy', 'leave --engine netstack out');
      return await inNetstack(invocation, environment);
    }
    if (
      invocation.text('save') !== undefined ||
      invocation.text('sets') !== undefined ||
      [...invocation.list('4'), ...invocation.list('6')].length > 0
    )
      throw new UsageError(
        '-4, -6, --sets and --save go with --engine netstack',
        'a live policy is read with "sluice save" and replaced with "sluice apply"',
      );
    const hooks = [...new Set(invocation.list('hook') as readonly HookName[])];
    const devices = [...new Set(invocation.list('dev'))];
    const netns = invocation.text('netns');
    if (invocation.flag('offload'))
      askForOffload({ hooks, devices, ...(netns === undefined ? {} : { namespaces: [netns] }) });
    return await onLivePolicy(
      {
        argv: invocation.rest,
        policy: invocation.text('policy') ?? DEFAULT_POLICY,
        hooks: hooks.length === 0 ? ['netfilter'] : hooks,
        devices,
        netns,
        allowNetlink: invocation.flag('allow-netlink'),
      },
      environment,
    );
  },
};
