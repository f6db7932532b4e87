import { ERROR_REASONS, type SteeringStatus } from '../../../host/index.ts';
import { formatAddressBytes } from '../../../net/index.ts';
import type { Command } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION, withSteering } from '../../sockets.ts';

const errorsOf = ({ metrics }: SteeringStatus['destinations'][number]): number =>
  ERROR_REASONS.reduce((sum, reason) => sum + metrics.errors[reason], 0);

function memberText(member: SteeringStatus['destinations'][number]['members'][number]): string {
  const host = formatAddressBytes(member.address);
  const name = `${host.includes(':') ? `[${host}]` : host}:${member.port}`;
  if (member.cookie === undefined) return `${name} closed`;
  return `${name} sk:${member.cookie.toString(16)} ${member.weight === 0 ? 'draining' : `weight ${member.weight}`}`;
}

function socketsText({ members, whenEmpty }: SteeringStatus['destinations'][number]): string {
  const lives = members.some(({ cookie }) => cookie !== undefined);
  const text = members.length === 0 ? 'no socket' : members.map(memberText).join(', ');
  return lives ? text : `${text}: ${whenEmpty === 'drop' ? 'refused' : 'ordinary look-up'}`;
}

function statusText(status: SteeringStatus): string {
  const { netns, programs, generation, bindings, destinations, unbound } = status;
  const order = programs.map(({ id, ours }) => (ours ? `${id} (sluice)` : String(id))).join(', ');
  const lines = [
    `network namespace ${netns.name === '' ? '' : `${netns.name} `}cookie ${netns.cookie} inode ${netns.inode}`,
    `programs in order: ${order}`,
    `bindings: ${bindings} (generation ${generation}); look-ups without a binding: ${unbound}`,
  ];
  const rows = destinations.map((destination) => {
    const { label, protocol, family, bindings, metrics } = destination;
    const counted = [bindings, metrics.lookups, metrics.misses, errorsOf(destination)].map(String);
    return [label, protocol, family, ...counted, socketsText(destination)];
  });
  if (rows.length > 0) {
    const heads = ['label', 'protocol', 'family', 'bindings', 'lookups', 'misses', 'errors', 'sockets'];
    const table = [heads, ...rows];
    const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
    for (const row of table)
      lines.push(
        row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd(),
      );
  }
  return `${lines.join('\n')}\n`;
}

/** As data; 64-bit numbers are strings. */
function statusJson(status: SteeringStatus): Readonly<Record<string, unknown>> {
  const destinations = status.destinations.map(({ index: _, members, ...rest }) => ({
    ...rest,
    members: members.map(({ slot: __, address, cookie, ...member }) => ({
      ...member,
      address: formatAddressBytes(address),
      cookie: cookie === undefined ? null : String(cookie),
    })),
  }));
  const netns = { ...status.netns, cookie: String(status.netns.cookie) };
  return { status: { version: 1, ...status, netns, destinations } };
}

export const socketStatus: Command = {
  name: 'socket status',
  summary: 'show programs, labels, their sockets and counters',
  description:
    'A socket that has been closed is shown as closed; where none lives, what becomes of the packets. Programs of others are shown in the order in which they run.',
  arguments: [],
  options: [NETNS_OPTION],
  async run(invocation, environment) {
    return await withSteering(invocation, async (steering) => {
      const status = steering.status();
      await answer(invocation, environment, statusText(status), statusJson(status));
      return ExitCode.OK;
    });
  },
};
