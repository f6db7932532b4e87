/** Answers the notified calls of one supervised command, from the table stores of the namespaces it uses. */
import {
  type Answer,
  createMemfd,
  Errno,
  isErrno,
  KernelError,
  type Notification,
  type NotificationListener,
  readProcessMemory,
  syscallNumber,
  writeProcessMemory,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import {
  AbiError,
  GET_ENTRIES_BYTES,
  INFO_BYTES,
  REPLACE_BYTES,
  REVISION_BYTES,
  SET_REQUEST_BYTES,
  SO_IP_SET,
  TableOption,
} from '../../rules/index.ts';
import type { StepListener } from '../policy/index.ts';
import { mayChangeTables, namespaceOf, programName, socketOf } from './caller.ts';
import { LEVELS, OPEN_NUMBER } from './calls.ts';
import type { TableStore } from './store.ts';

/** Files of the names of tables, by any way that /proc has to the caller's own namespace. */
const NAMES_FILE = /^\/proc\/(?:self\/|thread-self\/)?net\/(ip6?)_tables_names$/;
/** Longer than any way to such a file. */
const LONGEST_PATH = 64;
/** Longer requests than any the kernel takes are not read. */
const LONGEST_REQUEST = 512 * 1024 * 1024;

export interface SessionOptions {
  readonly listener: NotificationListener;
  /** Tables of the namespace that the command starts in. */
  readonly store: TableStore;
  readonly netnsCookie: bigint;
  /** A thread in the command's user and network namespace. */
  readonly thread: number;
  /** Tables of another namespace that the command's processes use; `undefined`: there are none. */
  readonly storeOf: (netnsCookie: bigint) => TableStore | undefined;
  /** Words for the user; each is said once. */
  readonly say: (line: string) => void;
  /** Told each step of a call that changes tables. */
  readonly step?: StepListener | undefined;
}

/** A call that ends with this errno. */
class Refusal extends Error {
  readonly errno: number;
  constructor(errno: number, message = '') {
    super(message);
    this.errno = errno;
  }
}

export class Session {
  readonly #options: SessionOptions;
  readonly #userNamespace: string;
  readonly #netNamespace: string;
  readonly #said = new Set<string>();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#userNamespace = namespaceOf(options.thread, 'user');
    this.#netNamespace = namespaceOf(options.thread, 'net');
  }

  /** Takes one call and ends it; false when there was none after all. Never throws for what a caller did. */
  async serve(): Promise<boolean> {
    const { listener } = this.#options;
    const call = listener.receive();
    if (call === undefined) return false;
    try {
      const answer = await this.#answer(call);
      if (call.nr === syscallNumber('setsockopt')) this.#step('answer');
      if (answer !== undefined) listener.answer(call.id, answer);
    } catch (error) {
      listener.answer(call.id, { errno: this.#errnoOf(error) });
    }
    return true;
  }

  #errnoOf(error: unknown): number {
    if (error instanceof AbiError || error instanceof Refusal) return error.errno;
    // The caller has gone, or its memory is not there.
    if (isErrno(error, Errno.EFAULT)) return Errno.EFAULT;
    if (isErrno(error, Errno.ESRCH) || (error instanceof KernelError && error.code === 'PROCESS_GONE'))
      return Errno.ESRCH;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Errno.ESRCH;
    this.#say(`a call could not be answered: ${error instanceof Error ? error.message : String(error)}`);
    return Errno.EIO;
  }

  #step(name: string): void {
    this.#options.step?.(name);
  }

  #say(line: string): void {
    if (this.#said.has(line)) return;
    this.#said.add(line);
    this.#options.say(line);
  }

  /** `undefined`: it has been answered already. */
  async #answer(call: Notification): Promise<Answer | undefined> {
    if (call.foreign) {
      this.#say(
        `${programName(call.pid)} is a 32-bit program, or makes calls of one: they are refused, for the tables that they would reach are this machine's. Use the 64-bit program`,
      );
      return { errno: Errno.ENOSYS };
    }
    switch (call.nr) {
      case syscallNumber('getsockopt'):
        return this.#getOption(call);
      case syscallNumber('setsockopt'):
        return await this.#setOption(call);
      case syscallNumber('openat'):
      case syscallNumber('openat2'):
        return this.#open(call, call.arguments[1]!);
      case OPEN_NUMBER:
        return this.#open(call, call.arguments[0]!);
      case syscallNumber('socket'):
        this.#say(
          `${programName(call.pid)} asked for netfilter's netlink, which would change this machine's own rules: it was refused. The shims in PATH are the iptables of the legacy programs; --allow-netlink lets nft, ipset and iptables-nft through`,
        );
        return { errno: Errno.EPROTONOSUPPORT };
      default:
        return 'continue';
    }
  }

  /** The tables that the call's socket is for. */
  #storeOf(call: Notification): { readonly store: TableStore; readonly family: Family } {
    const level = Number(call.arguments[1]! & 0xffff_ffffn);
    const family = level === LEVELS.ipv4 ? 'ipv4' : 'ipv6';
    const socket = socketOf(call.pid, Number(call.arguments[0]! & 0xffff_ffffn));
    const SOCK_RAW = 3;
    // A raw IPv6 socket has no options of IPv4; TCP and UDP sockets have.
    if (socket === undefined || (socket.domain !== family && (family === 'ipv6' || socket.type === SOCK_RAW)))
      throw new Refusal(Errno.ENOPROTOOPT);
    const own = socket.netnsCookie === this.#options.netnsCookie;
    if (!mayChangeTables(call.pid) || (own && namespaceOf(call.pid, 'user') !== this.#userNamespace))
      throw new Refusal(Errno.EPERM);
    const store = own ? this.#options.store : this.#options.storeOf(socket.netnsCookie);
    if (store !== undefined) return { store, family };
    this.#say('a socket of another network namespace asked for tables: only those of --netns are managed');
    throw new Refusal(Errno.EPERM);
  }

  #getOption(call: Notification): Answer {
    const option = Number(call.arguments[2]! & 0xffff_ffffn);
    const { store, family } = this.#storeOf(call);
    const address = call.arguments[3]!;
    const length = new DataView(this.#read(call, call.arguments[4]!, 4).buffer).getInt32(0, true);
    if (length < 0) return { errno: Errno.EINVAL };
    const read = (most: number): Uint8Array => this.#read(call, address, Math.min(length, most));
    switch (option) {
      case TableOption.GET_INFO:
        this.#write(call, address, store.info(family, read(INFO_BYTES), length));
        break;
      case TableOption.GET_ENTRIES: {
        const entries = store.entries(family, read(GET_ENTRIES_BYTES), length);
        this.#write(call, address + BigInt(GET_ENTRIES_BYTES), entries);
        break;
      }
      case SO_IP_SET:
        this.#write(call, address, store.sets(read(SET_REQUEST_BYTES), length));
        break;
      case TableOption.GET_REVISION_MATCH[family]:
        store.revision('match', family, read(REVISION_BYTES), length);
        break;
      default:
        store.revision('target', family, read(REVISION_BYTES), length);
    }
    return { value: 0n };
  }

  async #setOption(call: Notification): Promise<Answer> {
    const { store, family } = this.#storeOf(call);
    const address = call.arguments[3]!;
    const length = Number(BigInt.asIntN(32, call.arguments[4]!));
    if (length < 0 || length > LONGEST_REQUEST) return { errno: Errno.EINVAL };
    this.#step('read request');
    if (Number(call.arguments[2]! & 0xffff_ffffn) === TableOption.SET_ADD_COUNTERS) {
      await store.addCounters(family, this.#read(call, address, length), length);
      return { value: 0n };
    }
    const header = store.replaceHeader(this.#read(call, address, Math.min(length, REPLACE_BYTES)), length);
    const request = this.#read(call, address, REPLACE_BYTES + header.size);
    // From here on the request is surely the caller's: until then its pid may have become another process.
    if (!this.#options.listener.stillValid(call.id)) throw new Refusal(Errno.ESRCH);
    try {
      const { oldCounters, countersAddress } = await store.replace(family, request, length);
      this.#step('tell old counters');
      this.#writeOldCounters(call, countersAddress, oldCounters);
      return { value: 0n };
    } catch (error) {
      // Of a table that has changed meanwhile the program itself says that it is to be tried again.
      if (error instanceof AbiError && error.errno !== Errno.EAGAIN)
        this.#options.say(
          `${family === 'ipv4' ? 'iptables' : 'ip6tables'} table ${header.table} stays as it is: ${error.message}`,
        );
      throw error;
    }
  }

  /** As in the kernel, a caller that cannot be given the old counters is not told: the table is in place. */
  #writeOldCounters(call: Notification, address: bigint, counters: Uint8Array): void {
    try {
      this.#write(call, address, counters);
    } catch (error) {
      if (!isErrno(error, Errno.EFAULT)) throw error;
    }
  }

  #open(call: Notification, address: bigint): Answer | undefined {
    const found = NAMES_FILE.exec(this.#pathAt(call, address) ?? '');
    if (found === null || namespaceOf(call.pid, 'net') !== this.#netNamespace) return 'continue';
    const text = this.#options.store.tableNames(found[1] === 'ip6' ? 'ipv6' : 'ipv4');
    using file = createMemfd('tables', new TextEncoder().encode(text));
    this.#options.listener.answerWithFd(call.id, file);
    return undefined;
  }

  #pathAt(call: Notification, address: bigint): string | undefined {
    try {
      const bytes = readProcessMemory(call.pid, address, LONGEST_PATH);
      const end = bytes.indexOf(0);
      return end < 0 ? undefined : new TextDecoder().decode(bytes.subarray(0, end));
    } catch {
      return undefined;
    }
  }

  #read(call: Notification, address: bigint, length: number): Uint8Array {
    const bytes = readProcessMemory(call.pid, address, length);
    if (bytes.length < length) throw new Refusal(Errno.EFAULT);
    return bytes;
  }

  #write(call: Notification, address: bigint, bytes: Uint8Array): void {
    // A caller that has gone must not have its successor's memory written.
    if (!this.#options.listener.stillValid(call.id)) throw new Refusal(Errno.ESRCH);
    writeProcessMemory(call.pid, address, bytes);
  }
}
