/** Sending whole IP packets as if a process of this host had made them: raw sockets of IPPROTO_RAW, raw(7) and RFC 3542. */
import { SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import {
  AF_INET,
  AF_INET6,
  encodeEndpoint,
  openSocket,
  SOCK_RAW,
  SOL_SOCKET,
  setSocketOption,
} from '../sys/socket.ts';
import { trySyscall } from '../sys/syscall.ts';

const IPPROTO_RAW = 255;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const SO_BROADCAST = 6;
const SO_PRIORITY = 12;
const SO_BINDTOIFINDEX = 62;
const IP_MULTICAST_LOOP = 34;
const IPV6_MULTICAST_LOOP = 19;
const MCAST_JOIN_GROUP = 42;
/** struct group_req: a device, padding, struct sockaddr_storage. */
const GROUP_REQ_BYTES = 136;
const GROUP_AT = 8;

export interface RawSenderOptions {
  readonly family: 'ipv4' | 'ipv6';
  /** skb->priority of all that is sent, by which programs tell it from what the kernel sends on its own. */
  readonly priority: number;
}

/** The kernel fills in an IPv4 header's length and checksum, and an identification of 0; all else goes out as it is. */
export class RawSender {
  readonly #socket: Fd;
  readonly #level: number;
  #bound = 0;

  /** @throws {SyscallError} EPERM without CAP_NET_RAW */
  constructor({ family, priority }: RawSenderOptions) {
    this.#level = family === 'ipv4' ? SOL_IP : SOL_IPV6;
    const domain = family === 'ipv4' ? AF_INET : AF_INET6;
    this.#socket = openSocket(domain, SOCK_RAW, IPPROTO_RAW, `a raw ${family} socket`);
    try {
      const loop = family === 'ipv4' ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP;
      setSocketOption(this.#socket, SOL_SOCKET, SO_BROADCAST, u32(1));
      setSocketOption(this.#socket, SOL_SOCKET, SO_PRIORITY, u32(priority));
      setSocketOption(this.#socket, this.#level, loop, u32(0));
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** Sends the packet to this address, by this device where the address is of the link only. False: the kernel refused. */
  send(packet: Uint8Array, destination: Uint8Array, scopeId: number): boolean {
    const name = encodeEndpoint({ address: destination, port: 0, scopeId });
    const { number } = this.#socket;
    return trySyscall('sendto', number, packet, packet.length, 0, name, name.length) >= 0;
  }

  /** From now on packets leave by this device alone; 0: by any. */
  bind(ifindex: number): void {
    if (ifindex === this.#bound) return;
    setSocketOption(this.#socket, SOL_SOCKET, SO_BINDTOIFINDEX, u32(ifindex));
    this.#bound = ifindex;
  }

  /** Lets this host take packets to a group that come in by the device, while the sender lives. */
  join(group: Uint8Array, ifindex: number): void {
    const request = new Uint8Array(GROUP_REQ_BYTES);
    request.set(u32(ifindex));
    request.set(encodeEndpoint({ address: group, port: 0 }), GROUP_AT);
    const { number } = this.#socket;
    const result = trySyscall('setsockopt', number, this.#level, MCAST_JOIN_GROUP, request, request.length);
    if (result < 0) throw new SyscallError('setsockopt', -result, 'joining a multicast group');
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
