import { SocketSteering } from '../../../host/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION } from '../../sockets.ts';

export const socketUnload: Command = {
  name: 'socket unload',
  summary: 'take the socket program and all bindings out of a network namespace',
  description: 'New connections are looked up as ever from then on. Connections that exist stay.',
  arguments: [],
  options: [NETNS_OPTION],
  async run(invocation, environment) {
    const loaded = await SocketSteering.unload(invocation.text('netns'));
    await answer(invocation, environment, loaded ? 'unloaded\n' : 'nothing was loaded\n', {
      unload: { version: 1, loaded },
    });
    return ExitCode.OK;
  },
};
