import { requireLive } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { listingJson, listingText } from '../output/listing.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

const WATCH_MS = 1000;
const FAMILIES = ['ipv4', 'ipv6'] as const;
const CLEAR = '\x1b[H\x1b[2J';

export const list: Command = {
  name: 'list',
  summary: 'print the live rules as iptables -L -n does',
  description:
    'The columns are those of iptables-legacy 1.8.9; of matches that it shows in words of its own, those that Sluice compiles are shown so, and string, u32, owner, realm, rpfilter, physdev, tcpmss, connbytes and ecn; others as iptables-save has them.',
  arguments: [],
  options: [
    { long: 'verbose', short: 'v', summary: 'counters and devices' },
    { long: 'exact', short: 'x', summary: 'counters in full' },
    { long: 'line-numbers', summary: 'number the rules of each chain' },
    { short: '4', summary: 'IPv4 rules only' },
    { short: '6', summary: 'IPv6 rules only' },
    {
      long: 'table',
      short: 't',
      value: 'TABLE',
      summary: 'this table only',
    },
    { long: 'watch', short: 'w', summary: 'again every second' },
    POLICY_OPTION,
    NETNS_OPTION,
  ],
  async run(invocation, environment) {
    const selection = selectionOf(invocation);
    const options = {
      verbose: invocation.flag('verbose'),
      exact: invocation.flag('exact'),
      numbered: invocation.flag('line-numbers'),
    };
    const table = invocation.text('table');
    const families = FAMILIES.filter((family) => invocation.flag(family === 'ipv4' ? '4' : '6'));
    for (;;) {
      const live = requireLive(selection);
      const { policy } = live;
      const rulesets = live.rulesets
        .filter(({ family }) => families.length === 0 || families.includes(family))
        .map((ruleset) => ({
          ...ruleset,
          tables: ruleset.tables.filter(({ name }) => table === undefined || name === table),
        }));
      if (invocation.flag('json')) {
        const tables = listingJson(rulesets);
        await environment.stdout.write(`${JSON.stringify({ list: { version: 1, policy, tables } })}\n`);
      } else {
        const clear = invocation.flag('watch') && environment.stdout.isTty ? CLEAR : '';
        await environment.stdout.write(clear + listingText(rulesets, options));
      }
      if (!invocation.flag('watch')) return ExitCode.OK;
      await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    }
  },
};
