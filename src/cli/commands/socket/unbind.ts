import { bindingJson, formatBinding } from '../../../sklookup/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, BINDING_ARGUMENTS, BINDING_OPTIONS, bindingOf, withSteering } from '../../sockets.ts';

export const socketUnbind: Command = {
  name: 'socket unbind',
  summary: 'remove a binding, given as it was bound',
  arguments: BINDING_ARGUMENTS,
  options: BINDING_OPTIONS,
  async run(invocation, environment) {
    const binding = bindingOf(invocation);
    return await withSteering(invocation, async (steering) => {
      await steering.unbind(binding);
      await answer(invocation, environment, `removed ${formatBinding(binding)}\n`, {
        unbind: { version: 1, binding: bindingJson(binding) },
      });
      return ExitCode.OK;
    });
  },
};
