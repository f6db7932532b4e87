import { writeFile } from 'node:fs/promises';
import { findLegacyProgram, MemoryEngine, Shims, supervise, TableStore } from '../../host/index.ts';
import type { Family } from '../../net/index.ts';
import { printRuleset } from '../../rules/index.ts';
import { type Command, type Invocation, UsageError } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { RULE_FILES, readRuleFiles, requireSound } from '../rulesets.ts';

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

export const exec: Command = {
  name: 'exec',
  summary: 'run a command whose iptables calls make a policy of Sluice',
  description: [
    'Runs the command, unmodified, with the legacy iptables programs first in its PATH. What they would tell the kernel',
    'is answered here instead: the tables of this machine are neither read nor changed.',
    'With --engine netstack the command runs in user and network namespaces of its own, without privilege; the policy it',
    'leaves is printed as iptables-save prints it, or saved. Exit code: that of the command.',
  ].join('\n'),
  arguments: [],
  options: [
    {
      long: 'engine',
      value: 'NAME',
      choices: ['netstack'],
      completes: 'choices',
      summary: 'where the policy lives: netstack (in this process, until it is printed or saved)',
    },
    ...RULE_FILES,
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
    const given = [...invocation.list('4'), ...invocation.list('6')].length > 0;
    const files = given ? await readRuleFiles(invocation, environment) : [];
    requireSound(files);
    const store = new TableStore(new MemoryEngine());
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
  },
};
