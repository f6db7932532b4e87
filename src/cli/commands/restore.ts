import { type ApplyRequest, applyPolicy } from '../../host/index.ts';
import type { Family } from '../../net/index.ts';
import { parseRuleset, RulesetError } from '../../rules/index.ts';
import { type Command, UsageError } from '../command.ts';
import { readInput } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { reportFailure } from '../failure.ts';
import { reportText } from './apply.ts';

type SavedPolicy = Omit<ApplyRequest, 'rulesets'> & {
  readonly rulesets: readonly { readonly family: Family; readonly text: string }[];
};

function savedPolicies(text: string, file: string): readonly SavedPolicy[] {
  let saved: { save?: { version?: number; policies?: readonly SavedPolicy[] } };
  try {
    saved = JSON.parse(text) as typeof saved;
  } catch (cause) {
    throw Object.assign(new UsageError(`${file} is no JSON`, 'make it with: sluice save --json'), { cause });
  }
  if (saved.save?.version !== 1 || !Array.isArray(saved.save.policies))
    throw new UsageError(`${file} holds no policies of version 1`, 'make it with: sluice save --json');
  return saved.save.policies;
}

export const restore: Command = {
  name: 'restore',
  summary: 'make the policies of a file by sluice save --json live again, counters included',
  description:
    'For the start of the machine: see the service in packaging. A policy that cannot be restored does not keep the others from being.',
  arguments: [{ name: 'FILE', summary: 'what sluice save --json printed, "-" for standard input' }],
  options: [],
  examples: [{ line: 'sluice restore /etc/sluice/policies.json', says: 'what the service runs' }],
  async run(invocation, environment) {
    const [file = '-'] = invocation.arguments;
    const policies = savedPolicies(new TextDecoder().decode(await readInput(file, environment)), file);
    const words = invocation.flag('json') ? ['--json'] : [];
    let worst: number = ExitCode.OK;
    for (const saved of policies) {
      try {
        const rulesets = saved.rulesets.map(({ family, text }) => {
          const name = `${file}: ${saved.policy} ${family}`;
          const { ruleset, diagnostics } = parseRuleset(text, { file: name, family });
          if (diagnostics.some(({ severity }) => severity === 'error')) throw new RulesetError(diagnostics);
          return ruleset;
        });
        const report = await applyPolicy({ ...saved, rulesets });
        await environment.stdout.write(
          invocation.flag('json')
            ? `${JSON.stringify({ apply: { version: 1, ...report } })}\n`
            : reportText(report),
        );
      } catch (error) {
        worst = Math.max(worst, await reportFailure(error, words, environment));
      }
    }
    return worst;
  },
};
