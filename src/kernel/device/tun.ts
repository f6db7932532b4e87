/** TUN and TAP devices: packets (TUN) or frames (TAP) through a descriptor. Documentation/networking/tuntap.rst. */
import { constants, openSync } from 'node:fs';
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError, KernelError, SyscallError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { pollReadable } from '../sys/poll.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_TAP = 0x0002;
/** No four bytes of flags and protocol in front of each packet. */
const IFF_NO_PI = 0x1000;

const ifreq = { size: 40, fields: { name: [0, 'name16'], flags: [16, 'u16'] } } as const;

/** Largest packet: an IP packet, or a frame with its header. */
const ROOM = 65536 + 18;

export class Tun {
  readonly fd: Fd;
  /** The device's name, chosen by the kernel when a pattern (`tun%d`) or nothing was given. */
  readonly name: string;
  readonly #buffer = new Uint8Array(ROOM);

  private constructor(fd: Fd, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /**
   * Makes a device in the calling thread's network namespace; it is down, and gone when this is closed.
   * @throws {KernelError} `TUN_UNAVAILABLE` without /dev/net/tun
   */
  static create(kind: 'tun' | 'tap', name = ''): Tun {
    if (new TextEncoder().encode(name).length > 15) {
      throw new KernelArgumentError(`"${name}" is too long for a device name`, 'at most 15 bytes');
    }
    let number: number;
    try {
      number = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
    } catch (cause) {
      throw new KernelError(
        'TUN_UNAVAILABLE',
        '/dev/net/tun cannot be opened',
        'load the tun module; run as root',
        { cause },
      );
    }
    const fd = new Fd(number, `${kind} device`);
    return closeOnError(fd, () => {
      const request = encodeStruct(ifreq, { name, flags: (kind === 'tun' ? IFF_TUN : IFF_TAP) | IFF_NO_PI });
      const result = trySyscall('ioctl', number, TUNSETIFF, request);
      if (result < 0) throw new SyscallError('ioctl(TUNSETIFF)', -result, `making ${kind} device ${name}`);
      return new Tun(fd, decodeStruct(ifreq, request).name);
    });
  }

  /** The next packet that the kernel sends out of the device; `undefined` when there is none. */
  read(): Uint8Array | undefined {
    const result = trySyscall('read', this.fd.number, this.#buffer, this.#buffer.length);
    if (result === -Errno.EAGAIN) return undefined;
    if (result < 0) throw new SyscallError('read', -result, `reading from device ${this.name}`);
    return this.#buffer.slice(0, result);
  }

  /** Lets the kernel receive a packet from the device. @throws {SyscallError} EIO while the device is down */
  write(packet: Uint8Array): void {
    const result = trySyscall('write', this.fd.number, packet, packet.length);
    if (result < 0) throw new SyscallError('write', -result, `writing to device ${this.name}`);
  }

  /** Waits for a packet without blocking the thread; false after `timeoutMs`. */
  wait(timeoutMs: number): Promise<boolean> {
    return pollReadable(this.fd, timeoutMs);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
