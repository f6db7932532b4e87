/**
 * The interface as it was first proposed (RFC v2 of August 2019, "Programming socket lookup with BPF"): program type
 * inet_lookup, helper bpf_redirect_lookup, one program a namespace by BPF_PROG_ATTACH. It was merged in another form
 * (see sk-lookup.ts); this one has no kernel.
 *
 * Its program type and helper never got numbers of their own: programs are loaded without a type, and the helper is a
 * function called by name.
 */
import type { AssembledProgram, Instruction } from '../../isa/index.ts';
import {
  Context,
  contextArgument,
  type Machine,
  type Program,
  pointer,
  SocketMap,
  u32,
  u64,
} from '../../vm/index.ts';
import { Errno, NetstackError } from '../errno.ts';
import { checkContextAccess } from './context-access.ts';
import type { SocketQuery } from './query.ts';
import { AF_INET, AF_INET6, type NetSocket } from './socket.ts';
import type { SocketTable, Steering } from './table.ts';

/** Return values; anything but BPF_REDIRECT means the ordinary look-up. There is no way to drop. */
export const BPF_OK = 0;
export const BPF_REDIRECT = 7;
/** Name by which programs call the helper: (context, map, &key, flags). */
export const BPF_REDIRECT_LOOKUP = 'bpf_redirect_lookup';

/** struct bpf_inet_lookup, 56 bytes. */
export const InetLookup = {
  family: 0,
  protocol: 4,
  remoteIp4: 8,
  localIp4: 12,
  remoteIp6: 16,
  localIp6: 32,
  remotePort: 48,
  localPort: 52,
} as const;
const CONTEXT_BYTES = 56;

/** Addresses in 1, 2 or 4 bytes; family, protocol and ports in 4 only; no stores. */
export function inetLookupMayRead(offset: number, bytes: number): boolean {
  if (offset < 0 || bytes > 4 || offset % bytes !== 0 || offset + bytes > CONTEXT_BYTES) return false;
  const isAddress = offset >= InetLookup.remoteIp4 && offset < InetLookup.remotePort;
  return isAddress || bytes === 4;
}

class InetLookupContext extends Context {
  readonly types = [] as const;

  constructor(machine: Machine) {
    super(machine, 'context bpf_inet_lookup', CONTEXT_BYTES, false);
  }

  set(query: SocketQuery): this {
    const { memory } = this.machine;
    memory.u8.fill(0, this.address, this.address + CONTEXT_BYTES);
    const six = query.localAddress.length === 16;
    this.setU32(InetLookup.family, six ? AF_INET6 : AF_INET);
    this.setU32(InetLookup.protocol, query.protocol);
    memory.u8.set(query.remoteAddress, this.address + (six ? InetLookup.remoteIp6 : InetLookup.remoteIp4));
    memory.u8.set(query.localAddress, this.address + (six ? InetLookup.localIp6 : InetLookup.localIp4));
    memory.view.setUint16(this.address + InetLookup.remotePort, query.remotePort);
    this.setU32(InetLookup.localPort, query.localPort);
    return this;
  }
  override synchronize(): void {}
}

/** The one program of a namespace. */
export class InetLookupProgram {
  readonly machine: Machine;
  readonly #context: InetLookupContext;
  readonly #loaded = new Map<Program, number>();
  readonly #bySocketAddress = new Map<number, NetSocket>();
  #attached: Program | undefined;
  #query: SocketQuery | undefined;
  #redirect: NetSocket | undefined;
  #nextId = 1;

  /** Takes over the table's steering and defines the helper in the machine. */
  constructor(machine: Machine, table: SocketTable) {
    this.machine = machine;
    this.#context = new InetLookupContext(machine);
    machine.defineKfunc(BPF_REDIRECT_LOOKUP, { function: (m) => this.#redirectLookup(m) });
    table.steer = (query) => this.run(query);
    const before = table.onClose;
    table.onClose = (socket) => {
      before(socket);
      const object = socket.objectIn(machine);
      for (const map of machine.socketMaps()) map.forget(object);
    };
  }

  /** What stands for a socket in this machine. */
  objectOf(socket: NetSocket): ReturnType<NetSocket['objectIn']> {
    const object = socket.objectIn(this.machine);
    this.#bySocketAddress.set(object.address, socket);
    return object;
  }

  /** @throws {NetstackError} EACCES for accesses of the context that are not allowed */
  load(program: AssembledProgram | readonly Instruction[]): Program {
    const loaded = this.machine.load(program);
    try {
      checkContextAccess(loaded.instructions, inetLookupMayRead, [BPF_OK, BPF_REDIRECT]);
    } catch (error) {
      this.machine.unload(loaded);
      throw error;
    }
    this.#loaded.set(loaded, this.#nextId++);
    return loaded;
  }

  /** BPF_PROG_ATTACH. @throws {NetstackError} EINVAL flags or type, EEXIST */
  attach(program: Program, flags = 0): void {
    if (flags !== 0) throw new NetstackError('EINVAL', 'no flags are known', 'give 0');
    if (!this.#loaded.has(program))
      throw new NetstackError('EINVAL', 'the program is of another type', 'load it');
    if (this.#attached !== undefined)
      throw new NetstackError('EEXIST', 'the namespace has a program', 'detach it first');
    this.#attached = program;
  }

  /** BPF_PROG_DETACH. @throws {NetstackError} ENOENT */
  detach(): void {
    if (this.#attached === undefined)
      throw new NetstackError('ENOENT', 'the namespace has no program', 'attach one first');
    this.#attached = undefined;
  }

  /** BPF_PROG_QUERY: no id or one, flags 0. @throws {NetstackError} EINVAL flags */
  query(flags = 0): { readonly attachFlags: 0; readonly ids: readonly number[] } {
    if (flags !== 0) throw new NetstackError('EINVAL', 'no flags are known', 'give 0');
    return { attachFlags: 0, ids: this.#attached === undefined ? [] : [this.#loaded.get(this.#attached)!] };
  }

  /** A redirection needs both the helper's success and the return value. No group is asked afterwards. */
  run(query: SocketQuery): Steering {
    if (this.#attached === undefined) return { kind: 'pass' };
    this.#query = query;
    this.#redirect = undefined;
    const verdict = this.machine.run(this.#attached, this.#context.set(query));
    this.#query = undefined;
    const socket: NetSocket | undefined = this.#redirect;
    if (verdict !== BPF_REDIRECT || socket === undefined) return { kind: 'pass' };
    return { kind: 'socket', socket, noReuseport: true };
  }

  #redirectLookup(m: Machine): number {
    contextArgument(m, 1);
    const map = m.mapOf(u32(m, 2));
    if (!(map instanceof SocketMap) || map.spec.type !== 'BPF_MAP_TYPE_REUSEPORT_SOCKARRAY')
      return m.fail('VM_ARGUMENT', 'bpf_redirect_lookup takes a REUSEPORT_SOCKARRAY only');
    const object = map.socketAt(pointer(m, 3, 4, 'read'));
    if (u64(m, 4) !== 0n) return -Errno.EINVAL;
    const socket = object === undefined ? undefined : this.#bySocketAddress.get(object.address);
    const query = this.#query!;
    if (socket?.group === undefined || socket.closed) return -Errno.ENOENT;
    if (socket.protocolNumber !== query.protocol) return -Errno.EPROTOTYPE;
    const six = query.localAddress.length === 16;
    if (six !== (socket.domain === 'ipv6') && (socket.domain === 'ipv4' || socket.v6Only))
      return -Errno.EAFNOSUPPORT;
    this.#redirect = socket;
    return BPF_REDIRECT;
  }
}
