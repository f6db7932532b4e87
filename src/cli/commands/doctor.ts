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

export const doctor: Command = {
  name: 'doctor',
  summary: 'what this kernel and these privileges allow, and the way out where they do not',
  description:
    'Tries every kernel feature that Sluice uses and leaves nothing behind. Exit code 1 when one is missing.',
  arguments: [],
  options: [],
  async run(invocation, environment) {
    const { facts, features } = probeKernel();
    if (invocation.flag('json')) {
      await environment.stdout.write(`${JSON.stringify({ doctor: { version: 1, facts, features } })}\n`);
    } else {
      await environment.stdout.write(factLines(facts) + features.map(featureLine).join(''));
    }
    return features.every(({ available }) => available) ? ExitCode.OK : ExitCode.FINDING;
  },
};
