/**
 * Programs of the path in the virtual machine: what XDP, tcx and netfilter links of a stack run. A program sees the frame as
 * a driver would hand it over, the device and its namespace, and may rewrite, cut, extend and redirect it.
 */
import type { AssembledProgram, ProgramType as ProgramTypeName } from '../../isa/index.ts';
import {
  type FibRequest,
  type FibResult,
  type KernelObject,
  type Machine,
  NetfilterContext,
  type Packet,
  type Program,
  SkbContext,
  XdpContext,
} from '../../vm/index.ts';
import { Errno } from '../errno.ts';
import type { NetfilterProgram } from '../hooks/link/netfilter.ts';
import { AttachType, type LinkProgram, ProgramType } from '../hooks/link/program.ts';
import type { NfHookState } from '../hooks/state.ts';
import type { NetDevice, SkBuff } from '../skb.ts';
import type { PathTrace } from './event.ts';
import { type FibFault, RouteTypeNumber } from './fib.ts';
import type { ProgramOutcome } from './ingress.ts';
import type { NetworkStack } from './stack.ts';

const ETHERNET_HEADER_BYTES = 14;
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const IFNAMSIZ = 16;
const BPF_F_INGRESS = 1;

const NUMBERS: Readonly<Partial<Record<ProgramTypeName, number>>> = {
  BPF_PROG_TYPE_SCHED_CLS: ProgramType.SCHED_CLS,
  BPF_PROG_TYPE_XDP: ProgramType.XDP,
  BPF_PROG_TYPE_NETFILTER: ProgramType.NETFILTER,
};

/** BPF_FIB_LKUP_RET_* of uapi/linux/bpf.h. */
const FibCode = {
  SUCCESS: 0,
  BLACKHOLE: 1,
  UNREACHABLE: 2,
  PROHIBIT: 3,
  NOT_FWDED: 4,
  FWD_DISABLED: 5,
  NO_NEIGH: 7,
  FRAG_NEEDED: 8,
} as const;
const BPF_FIB_LOOKUP_SKIP_NEIGH = 4;
const FAULT_CODES: Readonly<Partial<Record<FibFault, number>>> = {
  blackhole: FibCode.BLACKHOLE,
  unreachable: FibCode.UNREACHABLE,
  prohibited: FibCode.PROHIBIT,
};

/** A program that links can attach. */
export interface MachineProgram extends NetfilterProgram {
  readonly program: Program;
}

/** One machine for the programs of one stack. Maps are made in the machine before the programs that name them are loaded. */
export class PathMachine {
  readonly machine: Machine;
  readonly #packet: Packet;
  readonly #xdp: XdpContext;
  readonly #skb: SkbContext;
  readonly #netfilter: NetfilterContext;
  readonly #devices = new Map<NetDevice, KernelObject>();
  readonly #programs = new Map<LinkProgram, Program>();
  #net: KernelObject | undefined;
  #trace: PathTrace | undefined;
  #next = 1;

  constructor(machine: Machine) {
    this.machine = machine;
    this.#packet = machine.createPacket();
    this.#xdp = new XdpContext(machine, this.#packet);
    this.#skb = new SkbContext(machine, this.#packet);
    this.#netfilter = new NetfilterContext(machine, this.#packet);
  }

  /** Gives programs the stack they run in: its namespace, its routes. */
  serve(stack: NetworkStack): void {
    this.#net = this.machine.kernel.create('net', { net_cookie: stack.net.cookie });
    this.#trace = stack.trace;
    this.machine.environment = {
      ...this.machine.environment,
      netnsCookie: () => stack.net.cookie,
      fibLookup: (request) => lookUpRoute(stack, request),
    };
  }

  /** @throws VmError as `Machine.load` does; RangeError for types that stand at no station of the path */
  load(code: AssembledProgram, type: ProgramTypeName, name: string): MachineProgram {
    const number = NUMBERS[type];
    if (number === undefined) throw new RangeError(`programs of type ${type} have no place in the path`);
    const program = this.machine.load(code, { type, name });
    const loaded: MachineProgram = {
      id: this.#next++,
      name,
      type: number,
      program,
      run: (state, skb) => {
        const verdict = this.#runHook(program, state, skb);
        this.#trace?.({ kind: 'program', where: 'netfilter', name, verdict, hook: state.hook });
        return verdict;
      },
    };
    this.#programs.set(loaded, program);
    return loaded;
  }

  /** Runs a program of an XDP or tcx link: `runProgram` of a stack's configuration. */
  run(link: LinkProgram, skb: SkBuff, device: NetDevice, attachType: number): ProgramOutcome {
    const program = this.#programs.get(link);
    if (program === undefined) throw new RangeError(`program ${link.name} is of another machine`);
    const linkBytes = this.#setFrame(skb);
    const verdict =
      attachType === AttachType.XDP
        ? program.run(this.#xdp.setDevice(this.#device(device)))
        : program.run(this.#prepareSkb(skb, device, attachType));
    const { redirection } = this.machine;
    return {
      verdict: verdict | 0,
      frame: this.#packet.bytes.slice(),
      linkBytes,
      ...(attachType === AttachType.XDP ? {} : { mark: this.#skb.mark, priority: this.#skb.priority }),
      ...(redirection === undefined
        ? {}
        : { redirect: { ifindex: redirection.ifindex, ingress: (redirection.flags & BPF_F_INGRESS) !== 0 } }),
    };
  }

  /** The packet behind its link header, an empty one where it has none. @returns the header's length */
  #setFrame(skb: SkBuff): number {
    const length = skb.mac?.length ?? ETHERNET_HEADER_BYTES;
    const frame = new Uint8Array(length + skb.data.length);
    if (skb.mac !== undefined) frame.set(skb.mac);
    else frame.set([skb.protocol >> 8, skb.protocol & 0xff], length - 2);
    frame.set(skb.data, length);
    this.#packet.set(frame, length);
    return length;
  }

  #prepareSkb(skb: SkBuff, device: NetDevice, attachType: number): SkbContext {
    const object = this.#device(device);
    this.#skb.skb.set('dev', object).set('__pkt_type_offset', skb.pktType);
    return this.#skb.set({
      pktType: skb.pktType,
      mark: skb.mark,
      priority: skb.priority,
      protocolBe: ((skb.protocol & 0xff) << 8) | (skb.protocol >> 8),
      ingressIfindex: attachType === AttachType.TCX_INGRESS ? device.ifindex : skb.iif,
      ifindex: device.ifindex,
    });
  }

  #runHook(program: Program, state: NfHookState, skb: SkBuff): number {
    this.#packet.set(skb.data, 0);
    if (skb.mac !== undefined) this.#packet.setLinkHeader(skb.mac);
    const [inDevice, outDevice] = [this.#device(state.in), this.#device(state.out)];
    this.#netfilter.state
      .set('hook', state.hook)
      .set('pf', state.pf)
      .set('in', inDevice)
      .set('out', outDevice)
      .set('net', this.#net);
    this.#netfilter.skb
      .set('dev', this.#device(skb.dev))
      .set('mark', skb.mark)
      .set('__pkt_type_offset', skb.pktType);
    return program.run(this.#netfilter);
  }

  #device(device: NetDevice | undefined): KernelObject | undefined {
    if (device === undefined) return undefined;
    const known = this.#devices.get(device);
    if (known !== undefined) return known;
    const name = new Uint8Array(IFNAMSIZ);
    name.set(Array.from(device.name, (letter) => letter.charCodeAt(0)).slice(0, IFNAMSIZ - 1));
    const object = this.machine.kernel.create('net_device', {
      ifindex: device.ifindex,
      name,
      type: device.loopback ? ARPHRD_LOOPBACK : ARPHRD_ETHER,
      ...(this.#net === undefined ? {} : { 'nd_net.net': this.#net }),
    });
    this.#devices.set(device, object);
    return object;
  }
}

/** bpf_ipv4_fib_lookup(), bpf_ipv6_fib_lookup(); no device here has neighbours. */
function lookUpRoute(stack: NetworkStack, request: FibRequest): FibResult {
  const { family, source, destination, ifindex, totalLength, flags } = request;
  const fib = stack.fib(family);
  const device = stack.net.deviceByIndex(ifindex);
  if (fib === undefined || device === undefined) return { code: -Errno.ENODEV };
  if (!stack.forwards(family, device)) return { code: FibCode.FWD_DISABLED };
  if (fib.addressType(destination) !== RouteTypeNumber.UNICAST) return { code: FibCode.NOT_FWDED };
  const outDevice = fib.output(destination);
  if (outDevice === undefined) {
    const decision = fib.input(source, destination, device.name);
    const code = decision.kind === 'drop' ? FAULT_CODES[decision.fault] : undefined;
    return { code: code ?? FibCode.NOT_FWDED };
  }
  const out = stack.deviceByName(outDevice);
  if (out === undefined) return { code: FibCode.NOT_FWDED };
  const found = { ifindex: out.ifindex, mtu: out.mtu };
  if (totalLength > out.mtu) return { ...found, code: FibCode.FRAG_NEEDED };
  const gateway = fib.nextHop(destination);
  const code = (flags & BPF_FIB_LOOKUP_SKIP_NEIGH) !== 0 ? FibCode.SUCCESS : FibCode.NO_NEIGH;
  return { ...found, code, gateway, gatewayFamily: family };
}
