/**
 * BPF_PROG_TYPE_SK_LOOKUP: loading, links, and the run of all attached programs.
 * Source: include/linux/filter.h (BPF_PROG_SK_LOOKUP_RUN_ARRAY), net/core/filter.c (bpf_sk_lookup_assign),
 * kernel/bpf/net_namespace.c.
 */
import type { AssembledProgram, Instruction } from '../../isa/index.ts';
import {
  type Environment,
  type Machine,
  type Program,
  SkLookupContext,
  type TupleRequest,
} from '../../vm/index.ts';
import { Errno, NetstackError } from '../errno.ts';
import { checkContextAccess, skLookupMayRead } from './context-access.ts';
import type { SocketQuery } from './query.ts';
import type { NetSocket } from './socket.ts';
import type { SocketTable, Steering } from './table.ts';

export const SK_DROP = 0;
export const SK_PASS = 1;
const MOST_PROGRAMS = 64;

/** A program at its place in a namespace. `program` stays readable after it is detached. */
export class SkLookupLink {
  readonly id: number;
  #program: Program;
  readonly #owner: SkLookupPrograms;

  constructor(owner: SkLookupPrograms, id: number, program: Program) {
    this.#owner = owner;
    this.id = id;
    this.#program = program;
  }

  get program(): Program {
    return this.#program;
  }
  /** False once the link was detached or its namespace has gone. */
  get attached(): boolean {
    return this.#owner.links.includes(this);
  }

  /**
   * Puts another program in place. With `expected`, only if that one is in place now.
   * @throws {NetstackError} EINVAL other program type, EPERM another than expected, ENOLINK after detaching
   */
  update(program: Program, expected?: Program): void {
    if (!this.attached) throw new NetstackError('ENOLINK', 'the link is detached', 'attach anew');
    if (expected !== undefined && expected !== this.#program)
      throw new NetstackError('EPERM', 'the link has another program', 'read it again');
    this.#owner.checkType(program);
    this.#program = program;
  }

  detach(): void {
    this.#owner.remove(this);
  }
}

/** The programs of one namespace, on one machine. */
export class SkLookupPrograms {
  readonly machine: Machine;
  readonly #table: SocketTable;
  readonly #context: SkLookupContext;
  readonly #loaded = new WeakSet<Program>();
  readonly #bySocketAddress = new Map<number, NetSocket>();
  #links: readonly SkLookupLink[] = [];
  #nextId = 1;
  #query: SocketQuery | undefined;

  /** Takes over the table's steering, and the machine's bpf_sk_assign and socket look-up helpers. */
  constructor(machine: Machine, table: SocketTable) {
    this.machine = machine;
    this.#table = table;
    this.#context = new SkLookupContext(machine);
    machine.environment = {
      ...machine.environment,
      assignSocket: (address) => this.#assignFault(address),
    };
    table.steer = (query) => (this.#links.length === 0 ? { kind: 'pass' } : this.run(query));
    const before = table.onClose;
    table.onClose = (socket) => {
      before(socket);
      this.#forget(socket);
    };
  }

  /** A closed socket leaves all maps, as sock_map_close and reuseport_detach_sock see to. */
  #forget(socket: NetSocket): void {
    const object = socket.objectIn(this.machine);
    for (const map of this.machine.socketMaps()) map.forget(object);
    this.#bySocketAddress.delete(object.address);
  }

  get links(): readonly SkLookupLink[] {
    return this.#links;
  }

  /** What stands for a socket in this machine: put it in maps, hand it to programs. */
  objectOf(socket: NetSocket): ReturnType<NetSocket['objectIn']> {
    const object = socket.objectIn(this.machine);
    this.#bySocketAddress.set(object.address, socket);
    return object;
  }

  /**
   * Checks a program's accesses and loads it.
   * @throws {NetstackError} EACCES, EINVAL; {VmError} for what the machine refuses
   */
  load(program: AssembledProgram | readonly Instruction[], name?: string): Program {
    const loaded = this.machine.load(program, {
      type: 'BPF_PROG_TYPE_SK_LOOKUP',
      ...(name === undefined ? {} : { name }),
    });
    try {
      checkContextAccess(loaded.instructions, skLookupMayRead, [SK_DROP, SK_PASS]);
    } catch (error) {
      this.machine.unload(loaded);
      throw error;
    }
    this.#loaded.add(loaded);
    return loaded;
  }

  /** @throws {NetstackError} EINVAL flags or program type, E2BIG */
  attach(program: Program, flags = 0): SkLookupLink {
    if (flags !== 0) throw new NetstackError('EINVAL', 'sk_lookup links take no flags', 'give 0');
    this.checkType(program);
    if (this.#links.length >= MOST_PROGRAMS)
      throw new NetstackError('E2BIG', `${MOST_PROGRAMS} programs are attached`, 'detach others first');
    const link = new SkLookupLink(this, this.#nextId++, program);
    this.#links = [...this.#links, link];
    return link;
  }

  checkType(program: Program): void {
    if (!this.#loaded.has(program))
      throw new NetstackError('EINVAL', 'the program was not loaded as an sk_lookup program here', 'load it');
  }

  remove(link: SkLookupLink): void {
    this.#links = this.#links.filter((other) => other !== link);
  }

  /** The end of the namespace: all links are detached. */
  destroy(): void {
    this.#links = [];
  }

  /**
   * Runs all programs. Before each, the selection is the last that was accepted; one that returns SK_PASS has its
   * selection accepted, and any accepted selection wins over drops.
   */
  run(query: SocketQuery): Steering {
    const context = this.#context.set(query);
    let selected = 0;
    let noReuseport = false;
    let dropped = false;
    this.#query = query;
    try {
      for (const { program } of this.#links) {
        context.select(selected, noReuseport);
        const verdict = this.machine.run(program, context);
        if (verdict === SK_PASS && context.selected !== 0) {
          selected = context.selected;
          noReuseport = context.noReuseport;
        } else if (verdict === SK_DROP) dropped = true;
      }
    } finally {
      this.#query = undefined;
    }
    const socket = this.#bySocketAddress.get(selected);
    if (socket !== undefined) return { kind: 'socket', socket, noReuseport };
    return { kind: dropped ? 'drop' : 'pass' };
  }

  /** bpf_sk_lookup_assign's checks of the socket, in its order; flags and EEXIST are the helper's. */
  #assignFault(address: number): number {
    const socket = this.#bySocketAddress.get(address);
    const query = this.#query;
    if (socket === undefined || query === undefined) return -Errno.ESOCKTNOSUPPORT;
    if (socket.protocol === 'tcp' ? socket.state !== 'LISTEN' : socket.state !== 'CLOSE')
      return -Errno.ESOCKTNOSUPPORT;
    if (socket.protocolNumber !== query.protocol) return -Errno.EPROTOTYPE;
    const six = query.localAddress.length === 16;
    if (six !== (socket.domain === 'ipv6') && (socket.domain === 'ipv4' || socket.v6Only))
      return -Errno.EAFNOSUPPORT;
    return 0;
  }

  /**
   * Answers bpf_sk_lookup_tcp and _udp of XDP and tc programs on another machine by this namespace's tables, programs
   * included: `otherMachine.environment = { …, lookupSocket: programs.lookupFor(otherMachine) }`.
   */
  lookupFor(
    machine: Machine,
    ingressIfindex: () => number = () => 0,
  ): NonNullable<Environment['lookupSocket']> {
    return (request: TupleRequest) =>
      this.#table
        .lookup({
          protocol: request.protocol,
          remoteAddress: request.sourceAddress,
          remotePort: request.sourcePort,
          localAddress: request.destinationAddress,
          localPort: request.destinationPort,
          ingressIfindex: ingressIfindex(),
        })
        ?.objectIn(machine);
  }
}
