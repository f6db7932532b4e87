import { livePrograms, liveTables, requireLive } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

export const dump: Command = {
  name: 'dump',
  summary: 'print the live programs and tables, the rule beside each block of instructions and each record',
  arguments: [],
  options: [POLICY_OPTION, NETNS_OPTION],
  async run(invocation, environment) {
    const live = requireLive(selectionOf(invocation));
    const { policy } = live;
    const programs = livePrograms(live.document);
    const tables = liveTables(live);
    if (invocation.flag('json')) {
      const listed = programs.map(({ title, program, text }) => ({
        name: program.name,
        point: program.point,
        title,
        text,
      }));
      await environment.stdout.write(
        `${JSON.stringify({ dump: { version: 1, policy, programs: listed, tables } })}\n`,
      );
    } else {
      for (const { title, program, text } of programs)
        await environment.stdout.write(`# ${title}: ${program.name}, ${program.type}\n${text}\n`);
      if (tables !== '') await environment.stdout.write(`# ${tables}`);
    }
    return ExitCode.OK;
  },
};
