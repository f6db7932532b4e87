/** Unix sockets that keep messages apart and carry descriptors: unix(7), SOCK_SEQPACKET and SCM_RIGHTS. */
import { rmSync } from 'node:fs';
import { driver } from '../ffi/index.ts';
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError, SyscallError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { openSocket, SOL_SOCKET, waitFor } from '../sys/socket.ts';
import { encodeStruct } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK_CLOEXEC = 0o2004000;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_NOSIGNAL = 0x4000;
const MSG_CTRUNC = 8;
const POLLIN = 1;
const CONTROL_HEADER = 16;
/** SCM_MAX_FD of include/net/scm.h. */
export const MOST_DESCRIPTORS = 253;
const LONGEST_PATH = 107;

const iovec = { size: 16, fields: { base: [0, 'ptr'], length: [8, 'u64'] } } as const;
const msghdr = {
  size: 56,
  fields: {
    parts: [16, 'ptr'],
    partCount: [24, 'u64'],
    control: [32, 'ptr'],
    controlLength: [40, 'u64'],
    flags: [48, 'u32'],
  },
} as const;

/** One message and the descriptors that came with it; the receiver closes them. */
export interface SeqpacketMessage {
  readonly data: Uint8Array;
  readonly descriptors: readonly Fd[];
  /** Some descriptors did not fit and are lost. */
  readonly truncated: boolean;
}

export class SeqpacketSocket {
  readonly fd: Fd;

  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** @throws {SyscallError} ENOENT, ECONNREFUSED */
  static connect(path: string): SeqpacketSocket {
    const fd = openSocket(AF_UNIX, SOCK_SEQPACKET, 0, `connection to ${path}`);
    return closeOnError(fd, () => {
      const address = unixAddress(path);
      const result = trySyscall('connect', fd.number, address, address.length);
      if (result < 0) throw new SyscallError('connect', -result, `connecting to ${path}`);
      return new SeqpacketSocket(fd);
    });
  }

  /** Sends one message, with descriptors if any are given. */
  send(data: Uint8Array, descriptors: readonly number[] = []): void {
    const control = new Uint8Array(
      descriptors.length === 0 ? 0 : CONTROL_HEADER + ((descriptors.length * 4 + 7) & ~7),
    );
    if (descriptors.length > 0) {
      const view = new DataView(control.buffer);
      view.setBigUint64(0, BigInt(CONTROL_HEADER + descriptors.length * 4), true);
      view.setInt32(8, SOL_SOCKET, true);
      view.setInt32(12, SCM_RIGHTS, true);
      for (const [index, number] of descriptors.entries())
        view.setInt32(CONTROL_HEADER + index * 4, number, true);
    }
    const parts = encodeStruct(iovec, { base: data, length: data.length });
    const header = encodeStruct(msghdr, { parts, partCount: 1, control, controlLength: control.length });
    const result = trySyscall('sendmsg', this.fd.number, header, MSG_NOSIGNAL);
    keepAlive([data, parts, control]);
    if (result < 0) throw new SyscallError('sendmsg', -result, `sending to ${this.fd.label}`);
  }

  /** The next message; `'none'` when there is none yet, `'end'` when the other side has closed. */
  receive(longest = 4096): SeqpacketMessage | 'none' | 'end' {
    const data = new Uint8Array(longest);
    const control = new Uint8Array(CONTROL_HEADER + MOST_DESCRIPTORS * 4 + 4);
    const parts = encodeStruct(iovec, { base: data, length: data.length });
    const header = encodeStruct(msghdr, { parts, partCount: 1, control, controlLength: control.length });
    const result = trySyscall('recvmsg', this.fd.number, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    keepAlive([data, parts]);
    if (result === -Errno.EAGAIN) return 'none';
    if (result === -Errno.ECONNRESET) return 'end';
    if (result < 0) throw new SyscallError('recvmsg', -result, `receiving from ${this.fd.label}`);
    const view = new DataView(header.buffer);
    const descriptors = readDescriptors(control.subarray(0, Number(view.getBigUint64(40, true))));
    if (result === 0 && descriptors.length === 0) return 'end';
    const truncated = (view.getUint32(48, true) & MSG_CTRUNC) !== 0;
    return { data: data.subarray(0, result), descriptors, truncated };
  }

  /** True when `receive` has something to say; waits at most so long. */
  waitForMessage(timeoutMs: number): boolean {
    return waitFor(this.fd, POLLIN, timeoutMs);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function readDescriptors(control: Uint8Array): Fd[] {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const found: Fd[] = [];
  for (let at = 0; at + CONTROL_HEADER <= control.length; ) {
    const length = Number(view.getBigUint64(at, true));
    if (length < CONTROL_HEADER) break;
    if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let each = at + CONTROL_HEADER; each + 4 <= at + length; each += 4)
        found.push(new Fd(view.getInt32(each, true), 'a descriptor that was passed'));
    }
    at += (length + 7) & ~7;
  }
  return found;
}

/** A listening socket at a path; the path goes with it. */
export class SeqpacketListener {
  readonly fd: Fd;
  readonly path: string;

  /** @throws {SyscallError} EADDRINUSE when the path exists */
  constructor(path: string) {
    driver();
    this.path = path;
    this.fd = openSocket(AF_UNIX, SOCK_SEQPACKET | 0o4000, 0, `socket ${path}`);
    closeOnError(this.fd, () => {
      const address = unixAddress(path);
      let result = trySyscall('bind', this.fd.number, address, address.length);
      if (result === -Errno.EADDRINUSE && !hasListener(path)) {
        rmSync(path, { force: true });
        result = trySyscall('bind', this.fd.number, address, address.length);
      }
      if (result >= 0) result = trySyscall('listen', this.fd.number, 64);
      if (result < 0) throw new SyscallError('bind', -result, `listening at ${path}`);
    });
  }

  /** The next connection; `undefined` when there is none. */
  accept(): SeqpacketSocket | undefined {
    const result = trySyscall('accept4', this.fd.number, null, null, SOCK_NONBLOCK_CLOEXEC);
    if (result === -Errno.EAGAIN || result === -Errno.ECONNABORTED) return undefined;
    if (result < 0) throw new SyscallError('accept4', -result, `accepting at ${this.path}`);
    return new SeqpacketSocket(new Fd(result, `connection at ${this.path}`));
  }

  close(): void {
    if (this.fd.closed) return;
    this.fd.close();
    rmSync(this.path, { force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** False when the path is left over from a process that has ended. */
function hasListener(path: string): boolean {
  try {
    SeqpacketSocket.connect(path).close();
    return true;
  } catch (error) {
    return !(error instanceof SyscallError && error.errno === Errno.ECONNREFUSED);
  }
}

function unixAddress(path: string): Uint8Array {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.length > LONGEST_PATH) {
    throw new KernelArgumentError(
      `"${path}" is no path for a unix socket`,
      `give one of 1 to ${LONGEST_PATH} bytes`,
    );
  }
  const address = new Uint8Array(2 + name.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}
