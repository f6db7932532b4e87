/** News of devices and addresses of a namespace: multicast groups of rtnetlink(7). */
import { Errno } from '../sys/errno.ts';
import { isErrno, SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { pollAnyReadable } from '../sys/poll.ts';
import { AF_NETLINK, openSocket, receive, SOCK_RAW } from '../sys/socket.ts';
import { trySyscall } from '../sys/syscall.ts';
import { decodeMessages, type NetlinkMessage } from './message.ts';
import { concernsAddresses, RTM_DELROUTE, RTM_NEWROUTE } from './route.ts';
import { NETLINK_ROUTE } from './socket.ts';

const RTMGRP_LINK = 0x1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
const RTMGRP_IPV6_IFADDR = 0x100;
const RTMGRP_IPV6_ROUTE = 0x400;
const GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
const BUFFER_BYTES = 1 << 16;

/** A subscription. It stays with the namespace in which it was made. */
export class AddressEvents {
  readonly fd: Fd;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  /** Subscribes in the calling thread's namespace. */
  constructor() {
    this.fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'news of addresses');
    // struct sockaddr_nl: family, padding, port (the kernel chooses), groups.
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, GROUPS, true);
    const result = trySyscall('bind', this.fd.number, address, address.length);
    if (result < 0) {
      this.fd.close();
      throw new SyscallError('bind', -result, 'subscribing to news of addresses');
    }
  }

  /** Takes all news that there are; true when a device, an address or what follows from one may have changed. */
  drain(): boolean {
    let changed = false;
    for (;;) {
      try {
        const length = receive(this.fd, this.#buffer, false);
        if (length === undefined) return changed;
        if (length > this.#buffer.length) changed = true;
        else
          for (const message of decodeMessages(this.#buffer.subarray(0, length)))
            changed ||= !isOfRoutes(message) || concernsAddresses(message);
      } catch (error) {
        // News were lost: whatever they were.
        if (!isErrno(error, Errno.ENOBUFS)) throw error;
        changed = true;
      }
    }
  }

  close(): void {
    this.fd.close();
  }
}

function isOfRoutes({ type }: NetlinkMessage): boolean {
  return type === RTM_NEWROUTE || type === RTM_DELROUTE;
}

/** Resolves when one of the subscriptions has news, or after `timeoutMs`. */
export async function waitForAddressEvents(
  subscriptions: readonly AddressEvents[],
  timeoutMs: number,
): Promise<void> {
  await pollAnyReadable(
    subscriptions.map(({ fd }) => fd),
    timeoutMs,
  );
}
