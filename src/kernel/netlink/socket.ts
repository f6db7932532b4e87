/**
 * A netlink socket for requests and dumps. It belongs to the network namespace in which it was opened.
 *
 * The kernel handles a request inside sendto(2) and queues its answer, so synchronous receives do not wait for anybody.
 */
import { Errno } from '../sys/errno.ts';
import { KernelError, SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import {
  AF_NETLINK,
  openSocket,
  receive,
  SOCK_RAW,
  setReceiveTimeout,
  setSocketOption,
} from '../sys/socket.ts';
import { cString } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';
import {
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  join,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './message.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

const SOL_NETLINK = 270;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const NLMSGERR_ATTR_MSG = 1;
const RECEIVE_TIMEOUT_MS = 5000;
/** A dump that others disturb is repeated this often. */
const DUMP_ATTEMPTS = 5;

export interface NetlinkRequest {
  readonly type: number;
  /** NLM_F_* beyond REQUEST. */
  readonly flags: number;
  readonly parts: readonly Uint8Array[];
}

/** One message of a transaction; `what` names it in errors. */
export interface NetlinkStep extends NetlinkRequest {
  readonly what: string;
}

export class NetlinkSocket {
  readonly #socket: Fd;
  #sequence = 0;
  #buffer = new Uint8Array(1 << 16);

  constructor(protocol: number) {
    this.#socket = openSocket(AF_NETLINK, SOCK_RAW, protocol, `netlink socket ${protocol}`);
    try {
      setReceiveTimeout(this.#socket, RECEIVE_TIMEOUT_MS);
      setSocketOption(this.#socket, SOL_NETLINK, NETLINK_EXT_ACK, Uint8Array.of(1, 0, 0, 0));
      setSocketOption(this.#socket, SOL_NETLINK, NETLINK_GET_STRICT_CHK, Uint8Array.of(1, 0, 0, 0));
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** Sends one request and waits for its acknowledgement. @throws {SyscallError} with the kernel's own explanation */
  request(request: NetlinkRequest, what: string): readonly NetlinkMessage[] {
    return this.#exchange(request.type, request.flags | NLM_F_ACK, request.parts, what);
  }

  /** Lists objects; repeats a dump that changed under way. */
  dump(type: number, parts: readonly Uint8Array[], what: string): readonly NetlinkMessage[] {
    for (let attempt = 1; ; attempt++) {
      const messages = this.#exchange(type, NLM_F_DUMP, parts, what);
      const disturbed = messages.some((message) => (message.flags & NLM_F_DUMP_INTR) !== 0);
      if (!disturbed || attempt === DUMP_ATTEMPTS) return messages;
    }
  }

  /**
   * Sends messages as one datagram, a transaction of nf_tables between its batch markers. All of it takes effect, or
   * nothing. @throws {SyscallError} naming the first step that failed
   */
  transact(steps: readonly NetlinkStep[]): void {
    const first = this.#sequence + 1;
    const whole = steps.at(-1)?.what ?? 'a netlink transaction';
    this.#send(join(steps.map((step) => this.#encode(step.type, step.flags, step.parts))), whole);
    let outstanding = steps.filter((step) => (step.flags & NLM_F_ACK) !== 0).length;
    let failure: SyscallError | undefined;
    while (outstanding > 0) {
      const bytes = this.#receive(failure === undefined);
      if (bytes === undefined) break;
      for (const message of decodeMessages(bytes)) {
        if (message.type !== NLMSG_ERROR) continue;
        failure ??= readError(message, steps[message.sequence - first]?.what ?? whole);
        outstanding--;
      }
    }
    if (failure !== undefined) throw failure;
    if (outstanding > 0) throw new SyscallError('netlink', Errno.ETIMEDOUT, whole);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #encode(type: number, flags: number, parts: readonly Uint8Array[]): Uint8Array {
    this.#sequence++;
    return encodeMessage(type, flags | NLM_F_REQUEST, this.#sequence, parts);
  }

  #send(bytes: Uint8Array, what: string): void {
    const result = trySyscall('sendto', this.#socket.number, bytes, bytes.length, 0, null, 0);
    if (result < 0) throw new SyscallError('sendto', -result, what);
  }

  #receive(wait: boolean): Uint8Array | undefined {
    const length = receive(this.#socket, this.#buffer, wait);
    if (length === undefined) return undefined;
    if (length > this.#buffer.length) {
      this.#buffer = new Uint8Array(length * 2);
      throw new KernelError(
        'NETLINK_TRUNCATED',
        `a netlink answer of ${length} bytes did not fit`,
        'ask again',
      );
    }
    return this.#buffer.slice(0, length);
  }

  #exchange(
    type: number,
    flags: number,
    parts: readonly Uint8Array[],
    what: string,
  ): readonly NetlinkMessage[] {
    this.#send(this.#encode(type, flags, parts), what);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const bytes = this.#receive(true);
      if (bytes === undefined) throw new SyscallError('netlink', Errno.ETIMEDOUT, what);
      for (const message of decodeMessages(bytes)) {
        if (message.sequence !== this.#sequence) continue;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const error = readError(message, what);
          if (error !== undefined) throw error;
          return answers;
        }
        answers.push(message);
      }
    }
  }
}

/** NLMSG_ERROR and NLMSG_DONE both begin with a negative errno or zero; extended acknowledgements add a text. */
function readError(message: NetlinkMessage, what: string): SyscallError | undefined {
  const { payload } = message;
  if (payload.length < 4) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const errno = -view.getInt32(0, true);
  if (errno === 0) return undefined;
  const text = (message.flags & NLM_F_ACK_TLVS) === 0 ? undefined : extendedText(message, view);
  return new SyscallError('netlink', errno, text === undefined ? what : `${what}: ${text}`);
}

function extendedText(message: NetlinkMessage, view: DataView): string | undefined {
  // After the error come the offending message's header and, unless capped, its payload; then the attributes.
  let offset = 4;
  if (message.type === NLMSG_ERROR) {
    offset += (message.flags & NLM_F_CAPPED) !== 0 ? 16 : (view.getUint32(4, true) + 3) & ~3;
  }
  const text = decodeAttributes(message.payload.subarray(offset)).get(NLMSGERR_ATTR_MSG);
  return text && cString(text);
}
