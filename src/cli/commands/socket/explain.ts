import { explainLookup, type SocketExplanation } from '../../../host/index.ts';
import { bindingJson, formatBinding } from '../../../sklookup/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION, tupleOf, withSteering } from '../../sockets.ts';

function sentence({ outcome, winner, cookie, agrees }: SocketExplanation): string {
  const asked = agrees ? 'checked by a test run' : 'a test run of the program says otherwise: a defect';
  if (winner === undefined) return `no binding takes it: the ordinary look-up decides (${asked})`;
  if (outcome === 'socket') {
    return `goes to ${winner.label}, socket sk:${cookie?.toString(16)} (${asked})`;
  }
  return outcome === 'drop'
    ? `${winner.label} has no live socket: refused (${asked})`
    : `${winner.label} has no live socket: the ordinary look-up decides (${asked})`;
}

export const socketExplain: Command = {
  name: 'socket explain',
  summary: 'say which binding a packet meets, which lose and why, and which socket gets it',
  arguments: [
    { name: 'PROTOCOL', summary: 'tcp or udp' },
    { name: 'ADDRESS:PORT', summary: 'where the packet is going: 192.0.2.7:443, [2001:db8::1]:443' },
  ],
  options: [
    NETNS_OPTION,
    { long: 'from', value: 'ADDRESS:PORT', summary: 'where it comes from' },
    { long: 'in', value: 'DEVICE', completes: 'device', summary: 'device that it comes in by' },
  ],
  examples: [
    { line: 'sluice socket explain tcp 192.0.2.7:443 --from 198.51.100.9:40000', says: 'one connection' },
  ],
  async run(invocation, environment) {
    const tuple = tupleOf(invocation);
    return await withSteering(invocation, async (steering) => {
      const explanation = explainLookup(steering, tuple);
      const { considered, outcome, cookie, agrees, winner } = explanation;
      const lines = considered.map(
        ({ binding, wins, reason }) =>
          `${wins ? '✓' : '✗'} ${formatBinding(binding)}${wins ? '' : `: ${reason}`}`,
      );
      await answer(invocation, environment, `${[...lines, sentence(explanation)].join('\n')}\n`, {
        explain: {
          version: 1,
          considered: considered.map(({ binding, ...rest }) => ({ binding: bindingJson(binding), ...rest })),
          label: winner?.label ?? null,
          outcome,
          cookie: cookie === undefined ? null : String(cookie),
          agrees,
        },
      });
      return agrees ? ExitCode.OK : ExitCode.DEFECT;
    });
  },
};
