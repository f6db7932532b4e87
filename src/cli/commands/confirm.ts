import { confirmPolicy } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

export const confirm: Command = {
  name: 'confirm',
  summary: 'keep the rules that sluice apply --confirm made live',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const { policy, cookie } = selectionOf(invocation);
    // A policy that went to several namespaces is confirmed in all of them, unless one is named.
    const everywhere = policy !== undefined && invocation.text('netns') === undefined;
    const confirmed = await confirmPolicy(everywhere ? { policy } : { policy, cookie });
    await environment.stdout.write(
      invocation.flag('json')
        ? `${JSON.stringify({ confirm: { version: 1, confirmed } })}\n`
        : `confirmed: ${confirmed.join(', ')}\n`,
    );
    return ExitCode.OK;
  },
};
