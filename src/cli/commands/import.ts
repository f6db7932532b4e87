import { CompileError, compilePolicy, formatRefusal } from '../../compile/index.ts';
import { closeTargets, openTargets, runningRules } from '../../host/index.ts';
import { withNetns } from '../../kernel/index.ts';
import { type Command, UsageError } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION } from '../policies.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;

export const importRules: Command = {
  name: 'import',
  summary: 'print the running iptables-legacy rules of a namespace, and say what can be taken over',
  description:
    'The tables are read from the kernel itself; no iptables need be installed. The rules go to standard output as iptables-save -c prints them, ready for sluice apply; what could not run goes to standard error, with exit code 1.\nNothing is changed.',
  arguments: [],
  options: [NETNS_OPTION, { short: '4', summary: 'IPv4 only' }, { short: '6', summary: 'IPv6 only' }],
  examples: [{ line: 'sluice import -4 > rules.v4', says: 'then: sluice apply -4 rules.v4 --confirm 60' }],
  async run(invocation, environment) {
    const netns = invocation.text('netns');
    const only = FAMILIES.filter((family) => invocation.flag(family === 'ipv4' ? '4' : '6'));
    const targets = openTargets(netns === undefined ? [] : [netns], []);
    try {
      const found = (only.length === 0 ? FAMILIES : only).flatMap((family) => {
        const rules = withNetns(targets[0]!.netns, () => runningRules(family));
        return rules === undefined ? [] : [rules];
      });
      if (found.length === 0)
        throw new UsageError('the namespace has no iptables-legacy rules', 'nft rules are not read');
      const problems: string[] = [];
      for (const { ruleset, unread } of found) {
        problems.push(...unread);
        try {
          compilePolicy([ruleset], { hooks: ['netfilter'] });
        } catch (error) {
          if (!(error instanceof CompileError)) throw error;
          problems.push(...error.refusals.map(formatRefusal));
        }
      }
      if (invocation.flag('json')) {
        const rulesets = found.map(({ ruleset: { family }, text }) => ({ family, text }));
        await environment.stdout.write(`${JSON.stringify({ import: { version: 1, rulesets, problems } })}\n`);
      } else {
        for (const { text } of found) await environment.stdout.write(text);
        for (const problem of problems) await environment.stderr.write(`cannot take over: ${problem}\n`);
        if (problems.length === 0)
          await environment.stderr.write('all of it can be taken over by sluice apply\n');
      }
      return problems.length === 0 ? ExitCode.OK : ExitCode.FINDING;
    } finally {
      closeTargets(targets);
    }
  },
};
