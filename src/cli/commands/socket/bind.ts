import { bindingJson, formatBinding } from '../../../sklookup/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, BINDING_ARGUMENTS, BINDING_OPTIONS, bindingOf, withSteering } from '../../sockets.ts';

export const socketBind: Command = {
  name: 'socket bind',
  summary: 'send traffic for a prefix and ports to the sockets of a label',
  description:
    'Of bindings that fit a packet the one with the longest prefix gets it, then fewest ports, longest source prefix, device, remote port. A binding that means the same traffic moves to the new label.',
  arguments: BINDING_ARGUMENTS,
  options: BINDING_OPTIONS,
  examples: [
    { line: 'sluice socket bind web tcp 192.0.2.0/24 80', says: 'port 80 of a whole prefix' },
    { line: 'sluice socket bind proxy tcp 198.51.100.0/24 all', says: 'every port' },
  ],
  async run(invocation, environment) {
    const binding = bindingOf(invocation);
    return await withSteering(invocation, async (steering) => {
      const replaced = await steering.bind(binding);
      const moved =
        replaced === undefined || replaced.label === binding.label ? '' : ` (was ${replaced.label})`;
      await answer(invocation, environment, `bound ${formatBinding(binding)}${moved}\n`, {
        bind: { version: 1, binding: bindingJson(binding), was: replaced?.label ?? null },
      });
      return ExitCode.OK;
    });
  },
};
