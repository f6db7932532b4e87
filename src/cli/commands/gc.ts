import { collectGarbage } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';

export const gc: Command = {
  name: 'gc',
  summary:
    'put live policies in order: finish or undo what was broken off, restore tables, drop what belongs to gone namespaces',
  description: 'Every command that changes policies does this first.',
  arguments: [],
  options: [],
  async run(invocation, environment) {
    const done = await collectGarbage();
    await environment.stdout.write(
      invocation.flag('json')
        ? `${JSON.stringify({ gc: { version: 1, done } })}\n`
        : done.map((text) => `${text}\n`).join(''),
    );
    return ExitCode.OK;
  },
};
