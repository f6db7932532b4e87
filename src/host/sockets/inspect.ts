/** Whether a descriptor can be registered, and why not. Rules: net/core/sock_map.c, bpf_sk_lookup_assign. */
import { describeSocket, type Fd, type SocketDescription } from '../../kernel/index.ts';
import { type Family, formatAddressBytes } from '../../net/index.ts';
import { PROTOCOL_NUMBER, type Protocol } from '../../sklookup/index.ts';
import { SocketHostError } from './error.ts';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;

/** A socket that can be registered, and the families of packets that it takes. */
export interface SteerableSocket {
  readonly description: SocketDescription;
  readonly protocol: Protocol;
  readonly families: readonly Family[];
}

/** @throws {SocketHostError} `HOST_SOCKET_…` saying why not */
export function inspectSocket(fd: Fd, netnsCookie: bigint): SteerableSocket {
  const description = describeSocket(fd);
  if (description === undefined) {
    throw new SocketHostError(
      'HOST_SOCKET_NOT_INET',
      `${fd.label} is no socket of IPv4 or IPv6`,
      'give a listening TCP socket or a bound UDP socket',
    );
  }
  const protocol = protocolOf(description);
  const name = `${fd.label} (${socketName(description)})`;
  if (protocol === undefined) {
    throw new SocketHostError(
      'HOST_SOCKET_PROTOCOL',
      `${name} is neither TCP nor UDP`,
      'only these are looked up by programs',
    );
  }
  if (description.netnsCookie !== netnsCookie) {
    throw new SocketHostError(
      'HOST_SOCKET_NETNS',
      `${name} belongs to another network namespace`,
      'name its namespace with --netns, or start the server in this one',
    );
  }
  if (protocol === 'tcp' && !description.listening) {
    throw new SocketHostError(
      'HOST_SOCKET_STATE',
      `${name} does not listen`,
      'register it after listen(2); connections need no binding',
    );
  }
  if (protocol === 'udp' && description.peer !== undefined) {
    throw new SocketHostError(
      'HOST_SOCKET_STATE',
      `${name} is connected to ${formatAddressBytes(description.peer.address)}`,
      'a connected socket gets its peer’s datagrams anyway; register one that is not connected',
    );
  }
  if (description.local.port === 0) {
    throw new SocketHostError(
      'HOST_SOCKET_STATE',
      `${name} is not bound`,
      'bind(2) it first, to any address',
    );
  }
  return { description, protocol, families: familiesOf(description) };
}

function protocolOf({ type, protocol }: SocketDescription): Protocol | undefined {
  if (type === SOCK_STREAM && protocol === PROTOCOL_NUMBER.tcp) return 'tcp';
  return type === SOCK_DGRAM && protocol === PROTOCOL_NUMBER.udp ? 'udp' : undefined;
}

/** An IPv6 socket that is not IPv6-only takes IPv4 packets too; bound to a mapped address it takes only those. */
function familiesOf({ domain, v6Only, local }: SocketDescription): Family[] {
  if (domain === 'ipv4') return ['ipv4'];
  if (v6Only) return ['ipv6'];
  return isMapped(local.address) ? ['ipv4'] : ['ipv4', 'ipv6'];
}

function isMapped(address: Uint8Array): boolean {
  return address.every((byte, index) => index >= 12 || byte === (index < 10 ? 0 : 0xff));
}

/** `tcp 127.0.0.1:80` */
export function socketName(description: SocketDescription): string {
  const { address, port } = description.local;
  const host = formatAddressBytes(address);
  const protocol = protocolOf(description) ?? `protocol ${description.protocol}`;
  return `${protocol} ${host.includes(':') ? `[${host}]` : host}:${port}`;
}
