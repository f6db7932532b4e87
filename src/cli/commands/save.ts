import { livePolicies, requireLive } from '../../host/index.ts';
import { printRuleset } from '../../rules/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, requestOf, selectionOf } from '../policies.ts';

export const save: Command = {
  name: 'save',
  summary: 'print the live rules with their counters, as iptables-save -c does',
  description:
    'With --json: every live policy of all namespaces with where and how it was applied, for sluice restore.',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    if (invocation.flag('json')) {
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
    for (const ruleset of rulesets) await environment.stdout.write(printRuleset(ruleset, { counters: true }));
    return ExitCode.OK;
  },
};
