/**
 * A TAP device inside a namespace: what is written to it comes in as if from a wire, and is through all hooks of the
 * receive path when the write returns (tun_get_user in drivers/net/tun.c).
 */

import { Fd } from '../../src/kernel/index.ts';
import { syscall, trySyscall } from '../../src/kernel/sys/syscall.ts';
import type { Host } from './netns.ts';

const AT_FDCWD = -100;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;

export const ETH_P_IP = 0x0800;
export const ETH_P_IPV6 = 0x86dd;

/** The neighbour that all frames come from. */
export const PEER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0x77);

export class Tap {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly #fd: Fd;
  readonly #frame = new Uint8Array(65_600);

  private constructor(name: string, mac: Uint8Array, fd: Fd) {
    this.name = name;
    this.mac = mac;
    this.#fd = fd;
  }

  /** Makes the device in the host's namespace, without ARP and neighbour discovery, and gives it addresses. */
  static open(host: Host, name: string, ...addresses: readonly string[]): Tap {
    const fd = host.run(() => {
      const path = new TextEncoder().encode('/dev/net/tun\0');
      const opened = new Fd(
        syscall('openat', AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0),
        'a TAP device',
      );
      const request = new Uint8Array(40);
      request.set(new TextEncoder().encode(name));
      new DataView(request.buffer).setUint16(16, IFF_TAP | IFF_NO_PI, true);
      syscall('ioctl', opened.number, TUNSETIFF, request);
      return opened;
    });
    host.keep(fd);
    host.sysctl(`net/ipv6/conf/${name}/accept_ra`, 0);
    host.sysctl(`net/ipv6/conf/${name}/accept_dad`, 0);
    host.sysctl(`net/ipv6/conf/${name}/router_solicitations`, 0);
    // Without ARP every neighbour is known, so no question about one ever leaves or waits.
    // The address follows from the name, so that recorded frames can be sent again.
    const address = `02:00:00:00:01:${(name.charCodeAt(name.length - 1) & 0xff).toString(16)}`;
    host.exec('ip', ['link', 'set', name, 'arp', 'off', 'address', address]);
    host.configure(name, ...addresses);
    return new Tap(name, Uint8Array.from(host.device(name).mac), fd);
  }

  /** Sends an IP packet to the host in a frame of its own; returns that frame's Ethernet header. */
  inject(
    packet: Uint8Array,
    frame: { readonly source?: Uint8Array; readonly destination?: Uint8Array } = {},
  ): Uint8Array {
    const header = this.#frame.subarray(0, 14);
    header.set(frame.destination ?? this.mac, 0);
    header.set(frame.source ?? PEER_MAC, 6);
    const type = (packet[0] ?? 0) >> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP;
    header[12] = type >> 8;
    header[13] = type & 0xff;
    this.#frame.set(packet, 14);
    syscall('write', this.#fd.number, this.#frame.subarray(0, 14 + packet.length), 14 + packet.length);
    return header.slice();
  }

  /** Frames that the host has sent since the last call. */
  take(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const buffer = new Uint8Array(65_600);
    for (;;) {
      const length = trySyscall('read', this.#fd.number, buffer, buffer.length);
      if (length <= 0) return frames;
      frames.push(buffer.slice(0, length));
    }
  }

  /** Throws away what the host has sent, so that its queue never fills. */
  drain(): void {
    const buffer = new Uint8Array(65_600);
    while (trySyscall('read', this.#fd.number, buffer, buffer.length) > 0);
  }
}
