import { requireLive } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { countersJson } from '../output/counters.ts';
import { listingText } from '../output/listing.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

const WATCH_MS = 1000;
const CLEAR = '\x1b[H\x1b[2J';

export const list: Command = {
  name: 'list',
  summary: 'print the live rules in columns, with -v as iptables -L -v -n does',
  arguments: [],
  options: [
    { long: 'verbose', short: 'v', summary: 'counters and devices' },
    { long: 'exact', short: 'x', summary: 'counters in full' },
    { long: 'watch', short: 'w', summary: 'again every second' },
    POLICY_OPTION,
    NETNS_OPTION,
  ],
  async run(invocation, environment) {
    const selection = selectionOf(invocation);
    const options = { verbose: invocation.flag('verbose'), exact: invocation.flag('exact') };
    for (;;) {
      const { rulesets, policy } = requireLive(selection);
      if (invocation.flag('json')) {
        const reports = rulesets.map((ruleset) => ({ family: ruleset.family, ruleset }));
        const { counters } = countersJson(reports, { ACCEPT: 0, DROP: 0, HELD: 0 });
        await environment.stdout.write(`${JSON.stringify({ list: { version: 1, policy, counters } })}\n`);
      } else {
        const clear = invocation.flag('watch') && environment.stdout.isTty ? CLEAR : '';
        await environment.stdout.write(clear + listingText(rulesets, options));
      }
      if (!invocation.flag('watch')) return ExitCode.OK;
      await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    }
  },
};
