/** The connection look-up of an ingress hook (lookup-program.ts) in the user-space machine, answered by whoever has connections. */
import type { AttachPoint } from '../../src/compile/index.ts';
import type { AssembledProgram } from '../../src/isa/index.ts';
import type { Family } from '../../src/net/index.ts';
import type { Entry } from '../../src/netstack/index.ts';
import {
  type Context,
  type KernelObject,
  Machine,
  SkbContext,
  type TupleRequest,
  XdpContext,
} from '../../src/vm/index.ts';

const ETHERTYPE_BE = { ipv4: 0x0008, ipv6: 0xdd86 } as const;
const SIDE_BYTES = 20;
const SIDE_FLAGS = 17;

export interface FoundConnection {
  readonly entry: ConnectionFields;
  readonly direction: 'original' | 'reply';
}

/** What a look-up reads of an entry. */
export interface ConnectionFields extends Pick<Entry, 'status'> {
  readonly tcp?:
    | {
        readonly state: number;
        readonly sides: readonly { readonly flags: number }[];
        readonly lastSide: number;
        readonly lastKind: number;
      }
    | undefined;
}

export class LookupMachine {
  readonly #machine: Machine;
  readonly #run: (packet: Uint8Array) => number;

  constructor(
    point: AttachPoint,
    family: Family,
    program: AssembledProgram<unknown>,
    find: (request: TupleRequest) => FoundConnection | undefined,
  ) {
    const machine = new Machine();
    this.#machine = machine;
    machine.environment = {
      lookupConnection: (request) => {
        const found = find(request);
        return found === undefined
          ? undefined
          : { connection: this.#object(found.entry), direction: found.direction };
      },
    };
    const type = point.flavour === 'xdp' ? 'BPF_PROG_TYPE_XDP' : 'BPF_PROG_TYPE_SCHED_CLS';
    const loaded = machine.load(program, { type, name: 'lookup' });
    const packet = machine.createPacket();
    const context: Context =
      point.flavour === 'xdp'
        ? new XdpContext(machine, packet)
        : new SkbContext(machine, packet).set({ protocolBe: ETHERTYPE_BE[family], ifindex: 1 });
    const frame = new Uint8Array(14);
    new DataView(frame.buffer).setUint16(12, ETHERTYPE_BE[family], true);
    this.#run = (bytes) => {
      packet.set(Uint8Array.of(...frame, ...bytes), 14);
      return loaded.run(context) >>> 0;
    };
  }

  /** The set of states that is left of the packet. */
  states(packet: Uint8Array): number {
    return this.#run(packet);
  }

  #object({ status, tcp }: ConnectionFields): KernelObject {
    const object = this.#machine.kernel.create('nf_conn', { status });
    if (tcp === undefined) return object;
    const seen = new Uint8Array(2 * SIDE_BYTES);
    for (const [side, { flags }] of tcp.sides.entries()) seen[side * SIDE_BYTES + SIDE_FLAGS] = flags;
    return object
      .set('proto.tcp.state', tcp.state)
      .set('proto.tcp.seen', seen)
      .set('proto.tcp.last_dir', tcp.lastSide)
      .set('proto.tcp.last_index', tcp.lastKind);
  }
}
