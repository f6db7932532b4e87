import { listOtherFirewalls, livePolicies, type OtherFirewall } from '../../host/index.ts';
import { type Feature, type KernelFacts, probeKernel } from '../../kernel/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';

function featureLine({ name, available, detail, hint }: Feature): string {
  const line = `${available ? '✓' : '✗'} ${name.padEnd(22)} ${detail}\n`;
  return available || hint === undefined ? line : `${line}    way out: ${hint}\n`;
}

function factLines(facts: KernelFacts): string {
  const lacking =
    facts.missingCapabilities.length === 0 ? '' : ` (lacking: ${facts.missingCapabilities.join(', ')})`;
  return [
    `  kernel                 ${facts.release}`,
    `  lockdown               ${facts.lockdown}`,
    `  capabilities           ${facts.capabilities.length === 0 ? 'none' : facts.capabilities.join(', ')}${lacking}`,
    '',
  ].join('\n');
}

/** What else decides in this namespace, where it may be asked; and what is wrong with live policies. */
function surroundings(): { readonly others: readonly OtherFirewall[]; readonly problems: readonly string[] } {
  try {
    const problems = livePolicies().flatMap((live) =>
      live.problems.map(
        (problem) => `policy ${live.policy} in ${live.netns.name || live.netns.inode}: ${problem}`,
      ),
    );
    return { others: listOtherFirewalls(), problems };
  } catch {
    // Without privilege neither can be seen; the features say so.
    return { others: [], problems: [] };
  }
}

export const doctor: Command = {
  name: 'doctor',
  summary: 'what this kernel and these privileges allow, and the way out where they do not',
  description:
    'Tries every kernel feature that Sluice uses and leaves nothing behind. Exit code 1 when one is missing.',
  arguments: [],
  options: [],
  async run(invocation, environment) {
    const { facts, features } = probeKernel();
    const { others, problems } = surroundings();
    if (invocation.flag('json')) {
      const doctor = { version: 1, facts, features, others, problems };
      await environment.stdout.write(`${JSON.stringify({ doctor })}\n`);
    } else {
      await environment.stdout.write(factLines(facts) + features.map(featureLine).join(''));
      for (const { kind, what, remedy } of others)
        await environment.stdout.write(`! ${kind.padEnd(22)} ${what}\n    note: ${remedy}\n`);
      for (const problem of problems) await environment.stdout.write(`✗ ${'policy'.padEnd(22)} ${problem}\n`);
    }
    return problems.length === 0 && features.every(({ available }) => available)
      ? ExitCode.OK
      : ExitCode.FINDING;
  },
};
