import { livePolicies, requireLive } from '../../host/index.ts';
import type { Family } from '../../net/index.ts';
import { printRuleset } from '../../rules/index.ts';
import { type Command, UsageError } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, requestOf, selectionOf } from '../policies.ts';

const FAMILIES: readonly (readonly [option: string, Family])[] = [
  ['4', 'ipv4'],
  ['6', 'ipv6'],
];

export const save: Command = {
  name: 'save',
  summary: 'print the live rules with their counters, as iptables-save -c does',
  description:
    'With --json: every live policy of all namespaces with where and how it was applied, for sluice restore.',
  arguments: [],
  options: [
    { short: '4', summary: 'IPv4 rules only' },
    { short: '6', summary: 'IPv6 rules only' },
    POLICY_OPTION,
    NETNS_OPTION,
  ],
  examples: [{ line: 'sluice save -4 > rules.v4', says: 'what sluice restore and iptables-restore take' }],
  async run(invocation, environment) {
    const chosen = FAMILIES.filter(([option]) => invocation.flag(option)).map(([, family]) => family);
    if (invocation.flag('json')) {
      if (chosen.length > 0) throw new UsageError('--json saves policies whole', 'leave -4 and -6 out');
      const policies = livePolicies({ policy: invocation.text('policy') }).map((live) => {
        const { rulesets, ...request } = requestOf(live);
        const texts = rulesets.map((ruleset) => ({
          family: ruleset.family,
          text: printRuleset(ruleset, { counters: true }),
        }));
        return { ...request, rulesets: texts };
      });
      await environment.stdout.write(`${JSON.stringify({ save: { version: 1, policies } })}\n`);
      return ExitCode.OK;
    }
    const { rulesets } = requireLive(selectionOf(invocation));
    for (const ruleset of rulesets)
      if (chosen.length === 0 || chosen.includes(ruleset.family))
        await environment.stdout.write(printRuleset(ruleset, { counters: true }));
    return ExitCode.OK;
  },
};
