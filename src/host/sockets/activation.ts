/** Sockets that a service manager passes on: sd_listen_fds(3), LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
import { describeSocket, Fd } from '../../kernel/index.ts';
import { isLabel } from '../../sklookup/index.ts';
import { SocketHostError } from './error.ts';

const FIRST_DESCRIPTOR = 3;

export interface ActivationSocket {
  readonly fd: Fd;
  /** The name that the manager gave it; `unknown` when it gave none. */
  readonly name: string;
}

/**
 * The descriptors that were passed to this process.
 * @throws {SocketHostError} `HOST_ACTIVATION`
 */
export function activationSockets(
  variables: Readonly<Record<string, string | undefined>>,
  pid: number = process.pid,
): ActivationSocket[] {
  const refuse = (message: string, hint: string): never => {
    throw new SocketHostError('HOST_ACTIVATION', message, hint);
  };
  const count = Number(variables.LISTEN_FDS);
  if (!/^[1-9][0-9]{0,3}$/.test(variables.LISTEN_FDS ?? '')) {
    refuse('no sockets were passed (LISTEN_FDS)', 'start it as a service with Sockets=, or give --pid');
  }
  if (variables.LISTEN_PID !== undefined && Number(variables.LISTEN_PID) !== pid) {
    refuse(
      `the sockets were passed to process ${variables.LISTEN_PID}`,
      'start this command itself from the service',
    );
  }
  const names = variables.LISTEN_FDNAMES === undefined ? [] : variables.LISTEN_FDNAMES.split(':');
  if (names.length > 0 && names.length !== count) {
    refuse(
      `${count} sockets were passed, but ${names.length} names (LISTEN_FDNAMES)`,
      'check FileDescriptorName=',
    );
  }
  return Array.from({ length: count }, (_, index) => {
    const number = FIRST_DESCRIPTOR + index;
    return { fd: new Fd(number, `descriptor ${number}`), name: names[index] ?? 'unknown' };
  });
}

/** Of sockets in one reuseport group at one address one is enough: the kernel spreads within the group. */
export function withoutGroupMates(sockets: readonly ActivationSocket[]): ActivationSocket[] {
  const groups = new Set<string>();
  return sockets.filter(({ fd, name }) => {
    const description = describeSocket(fd);
    if (description?.reusePort !== true) return true;
    const { protocol, local, netnsCookie } = description;
    const group = `${name} ${protocol} ${local.address.join('.')} ${local.port} ${netnsCookie}`;
    if (groups.has(group)) return false;
    groups.add(group);
    return true;
  });
}

/** The label for a passed socket: the one that was asked for, else its name. */
export function activationLabel(socket: ActivationSocket, asked: string | undefined): string {
  const label = asked ?? socket.name;
  if (isLabel(label) && (asked !== undefined || label !== 'unknown')) return label;
  throw new SocketHostError(
    'HOST_ACTIVATION',
    `the passed ${socket.fd.label} has no name that could be its label`,
    'set FileDescriptorName= in the socket unit, or give --label',
  );
}
