import { livePrograms, requireLive } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

export const dump: Command = {
  name: 'dump',
  summary: 'print the live programs with the rule beside each block of instructions',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const { document, policy } = requireLive(selectionOf(invocation));
    const programs = livePrograms(document);
    if (invocation.flag('json')) {
      const listed = programs.map(({ title, program, text }) => ({
        name: program.name,
        point: program.point,
        title,
        text,
      }));
      await environment.stdout.write(
        `${JSON.stringify({ dump: { version: 1, policy, programs: listed } })}\n`,
      );
    } else {
      for (const { title, program, text } of programs)
        await environment.stdout.write(`# ${title}: ${program.name}, ${program.type}\n${text}\n`);
    }
    return ExitCode.OK;
  },
};
