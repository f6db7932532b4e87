import { diffRulesets, requireLive } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { changeLines } from '../output/changes.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';
import { RULE_FILE_ARGUMENT, RULE_FILES, readRuleFiles, requireOnePolicy } from '../rulesets.ts';

export const diff: Command = {
  name: 'diff',
  summary: 'compare the live rules with files: what applying them would add, remove and move',
  description: 'Exit code 1 when there is any difference.',
  arguments: [RULE_FILE_ARGUMENT],
  options: [...RULE_FILES, POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const files = await readRuleFiles(invocation, environment);
    requireOnePolicy(files);
    const live = requireLive(selectionOf(invocation));
    const wanted = files.map(({ ruleset }) => ruleset);
    const changes = diffRulesets(live.rulesets, wanted);
    await environment.stdout.write(
      invocation.flag('json')
        ? `${JSON.stringify({ diff: { version: 1, policy: live.policy, changes } })}\n`
        : changeLines(changes),
    );
    return changes.length === 0 ? ExitCode.OK : ExitCode.FINDING;
  },
};
