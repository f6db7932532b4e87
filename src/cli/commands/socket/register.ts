import {
  activationLabel,
  activationSockets,
  receiveSockets,
  type SocketSteering,
  type SteerableSocket,
  socketName,
  takeProcessSocket,
  withoutGroupMates,
} from '../../../host/index.ts';
import { type Command, type Invocation, UsageError } from '../../command.ts';
import type { CliEnvironment } from '../../environment.ts';
import { ExitCode } from '../../exit.ts';
import { addressOf, answer, labelOf, NETNS_OPTION, protocolOf, withSteering } from '../../sockets.ts';

async function tell(
  steering: SocketSteering,
  invocation: Invocation,
  environment: CliEnvironment,
  label: string,
  { description, protocol, families }: SteerableSocket,
): Promise<void> {
  const bound = steering
    .status()
    .destinations.some((each) => each.label === label && each.protocol === protocol && each.bindings > 0);
  const yet = bound ? '' : `; no ${protocol} binding names ${label} yet`;
  const text = `registered ${socketName(description)} for ${label} (${families.join(', ')})${yet}\n`;
  await answer(invocation, environment, text, {
    register: { version: 1, label, protocol, families, cookie: String(description.cookie) },
  });
}

async function fromProcess(
  steering: SocketSteering,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<void> {
  const label = labelOf(invocation.text('label'));
  const pid = invocation.number('pid', { min: 1, max: 0x7fffffff })!;
  const port = invocation.number('port', { min: 1, max: 65535 });
  if (port === undefined)
    throw new UsageError('--port is missing', 'give the port that the process is bound to');
  const wanted = {
    protocol: protocolOf(invocation.text('protocol')),
    address: addressOf(invocation.text('address'), '--address'),
    port,
  };
  const fd = takeProcessSocket(pid, wanted);
  try {
    const weight = invocation.number('weight', { min: 1, max: 1000 });
    await tell(
      steering,
      invocation,
      environment,
      label,
      await steering.register(fd, { label, ...(weight === undefined ? {} : { weight }) }),
    );
  } finally {
    fd.close();
  }
}

async function fromActivation(
  steering: SocketSteering,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<void> {
  const asked = invocation.text('label');
  const sockets = activationSockets(environment.variables);
  for (const socket of withoutGroupMates(sockets)) {
    const label = activationLabel(socket, asked === undefined ? undefined : labelOf(asked));
    await tell(steering, invocation, environment, label, await steering.register(socket.fd, { label }));
  }
}

async function fromUnixSocket(
  steering: SocketSteering,
  path: string,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<void> {
  const ended = new AbortController();
  const stop = (): void => ended.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    const options = {
      path,
      listening: () => void environment.stderr.write(`waiting for sockets at ${path}\n`),
      registered: (label: string, socket: SteerableSocket) =>
        void tell(steering, invocation, environment, label, socket),
    };
    await receiveSockets(steering, options, ended.signal);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

export const socketRegister: Command = {
  name: 'socket register',
  summary: 'give a label its sockets: from a process, a service manager, or whoever sends them',
  description:
    'Takes a listening TCP socket or a bound UDP socket that is not connected. A new socket takes the place of the one before (label … spread reuseport; with SO_REUSEPORT the kernel spreads within its group), or joins (spread hash). UDP flows stay with the socket that they met first.\nWith --listen-fds the sockets that systemd passed (LISTEN_FDS), their names being the labels. With --listen PATH a unix socket (SOCK_SEQPACKET) that takes messages of a label with descriptors and answers OK or ERROR.',
  arguments: [],
  options: [
    NETNS_OPTION,
    { long: 'label', value: 'LABEL', summary: 'label that the socket is for' },
    { long: 'pid', value: 'PID', summary: 'process that has the socket open' },
    { long: 'protocol', value: 'PROTOCOL', choices: ['tcp', 'udp'], summary: 'of the socket' },
    { long: 'address', value: 'ADDRESS', summary: 'that the socket is bound to' },
    { long: 'port', value: 'PORT', summary: 'that the socket is bound to' },
    { long: 'weight', value: 'N', summary: 'share of new flows among the sockets of a label, 1 to 1000' },
    { long: 'listen-fds', summary: 'take the sockets that the service manager passed to this process' },
    {
      long: 'listen',
      value: 'PATH',
      completes: 'file',
      summary: 'take sockets at this unix socket until interrupted',
    },
  ],
  examples: [
    {
      line: 'sluice socket register --label web --pid 4711 --protocol tcp --address 127.0.0.1 --port 8080',
      says: 'a server that is already running',
    },
    {
      line: 'ExecStart=sluice socket register --listen-fds',
      says: 'in a unit of Type=oneshot with Sockets=, FileDescriptorName= being the labels',
    },
    {
      line: 'ExecStartPost=sluice socket register --label web --pid $MAINPID --protocol tcp --address 127.0.0.1 --port 8080',
      says: 'in the unit of a server (Type=notify, so that it listens by then)',
    },
  ],
  async run(invocation, environment) {
    const path = invocation.text('listen');
    const ways = [invocation.text('pid'), path, invocation.flag('listen-fds') || undefined];
    if (ways.filter((way) => way !== undefined).length !== 1) {
      throw new UsageError(
        'where the socket comes from is not clear',
        'give one of --pid, --listen-fds and --listen',
      );
    }
    return await withSteering(invocation, async (steering) => {
      if (path !== undefined) await fromUnixSocket(steering, path, invocation, environment);
      else if (invocation.flag('listen-fds')) await fromActivation(steering, invocation, environment);
      else await fromProcess(steering, invocation, environment);
      return ExitCode.OK;
    });
  },
};
