import { SocketSteering } from '../../../host/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION } from '../../sockets.ts';

export const socketLoad: Command = {
  name: 'socket load',
  summary: 'put the socket program into a network namespace, without bindings',
  description:
    'The program stays without any process of Sluice. It stands behind the sk_lookup programs that are there already; what they chose stands.\nLoaded already: nothing happens, exit code 0.',
  arguments: [],
  options: [NETNS_OPTION],
  examples: [{ line: 'sluice socket load', says: 'then: socket apply, socket register' }],
  async run(invocation, environment) {
    const { steering, fresh } = await SocketSteering.load(invocation.text('netns'));
    try {
      const { programs, netns } = steering.status();
      const id = programs.find(({ ours }) => ours)?.id;
      const text = fresh ? `loaded program ${id}\n` : `loaded already: program ${id}\n`;
      await answer(invocation, environment, text, {
        load: { version: 1, fresh, program: id, netns: String(netns.cookie), programs },
      });
      return ExitCode.OK;
    } finally {
      steering.close();
    }
  },
};
