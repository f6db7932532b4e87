import type { SocketFilter } from '../../../host/index.ts';
import type { Command, Invocation } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { counted } from '../../output/count.ts';
import { addressOf, answer, labelOf, NETNS_OPTION, protocolOf, withSteering } from '../../sockets.ts';

function filterOf(invocation: Invocation): SocketFilter {
  const protocol = invocation.text('protocol');
  const family = invocation.text('family');
  const address = invocation.text('address');
  const port = invocation.number('port', { min: 1, max: 65535 });
  return {
    label: labelOf(invocation.text('label')),
    ...(protocol === undefined ? {} : { protocol: protocolOf(protocol) }),
    ...(family === 'ipv4' || family === 'ipv6' ? { family } : {}),
    ...(address === undefined ? {} : { address: addressOf(address, '--address') }),
    ...(port === undefined ? {} : { port }),
  };
}

export const socketUnregister: Command = {
  name: 'socket unregister',
  summary: 'take sockets of a label out; the bindings stay',
  description:
    'Without further options all sockets of the label. With --drain they only get no new flows: UDP flows that are kept, and connections, stay.',
  arguments: [],
  options: [
    NETNS_OPTION,
    { long: 'label', value: 'LABEL', summary: 'label that the sockets are of' },
    { long: 'protocol', value: 'PROTOCOL', choices: ['tcp', 'udp'], summary: 'only of this protocol' },
    {
      long: 'family',
      value: 'FAMILY',
      choices: ['ipv4', 'ipv6'],
      summary: 'only for packets of this family',
    },
    { long: 'address', value: 'ADDRESS', summary: 'only the socket that was bound to this address' },
    { long: 'port', value: 'PORT', summary: 'only the socket that was bound to this port' },
    { long: 'drain', summary: 'send new flows elsewhere, keep the sockets' },
  ],
  async run(invocation, environment) {
    const filter = filterOf(invocation);
    const drain = invocation.flag('drain');
    return await withSteering(invocation, async (steering) => {
      const count = drain ? await steering.drain(filter) : await steering.unregister(filter);
      const text = `${drain ? 'draining' : 'took out'} ${counted(count, 'socket')} of ${filter.label}\n`;
      await answer(invocation, environment, text, {
        unregister: { version: 1, drain, count, label: filter.label },
      });
      return ExitCode.OK;
    });
  },
};
