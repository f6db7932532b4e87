import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION, withSteering } from '../../sockets.ts';

export const socketUpgrade: Command = {
  name: 'socket upgrade',
  summary: "put this build's program in the place of the loaded one",
  description:
    'Bindings, sockets, kept flows and counters stay; no packet meets an instant without a program.',
  arguments: [],
  options: [NETNS_OPTION],
  async run(invocation, environment) {
    return await withSteering(invocation, async (steering) => {
      const { before, after } = await steering.upgrade();
      await answer(invocation, environment, `program ${before} -> ${after}\n`, {
        upgrade: { version: 1, before, after },
      });
      return ExitCode.OK;
    });
  },
};
