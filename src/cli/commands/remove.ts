import { removePolicies } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

export const remove: Command = {
  name: 'remove',
  summary: 'take policies away: links, programs, tables',
  description:
    'Without --policy: all policies of the namespace. With --policy and without --netns: that policy everywhere.',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const policy = invocation.text('policy');
    const everywhere = policy !== undefined && invocation.text('netns') === undefined;
    const removed = await removePolicies(everywhere ? { policy } : selectionOf(invocation));
    await environment.stdout.write(
      invocation.flag('json')
        ? `${JSON.stringify({ remove: { version: 1, removed } })}\n`
        : `removed: ${removed.join(', ')}\n`,
    );
    return ExitCode.OK;
  },
};
