import { zeroCounters } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

export const zero: Command = {
  name: 'zero',
  summary: 'let the counters of live rules start from zero',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const policies = await zeroCounters(selectionOf(invocation));
    if (invocation.flag('json'))
      await environment.stdout.write(`${JSON.stringify({ zero: { version: 1, policies } })}\n`);
    return ExitCode.OK;
  },
};
