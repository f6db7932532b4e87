/** A compiled policy at xdp, tcx or cgroup in the user-space machine, in the generated world. */
import { type AttachPoint, type CompiledPolicy, entryIndex } from '../../src/compile/index.ts';
import {
  type MachinePacket,
  PolicyMachine,
  type PolicyMachineOptions,
} from '../../src/host/replay/machine.ts';
import type { Family } from '../../src/net/index.ts';
import { RouteTypeNumber } from '../../src/netstack/index.ts';
import {
  type Context,
  type FibRequest,
  type FibResult,
  type KernelObject,
  type Packet,
  type Redirection,
  SkbContext,
  XdpContext,
} from '../../src/vm/index.ts';
import { worldAddressTypes } from './addresstypes.ts';
import { worldRouting } from './generate/world.ts';
import { DEVICE_MAC } from './machine-cases.ts';

export type HookPoint = AttachPoint & { readonly flavour: 'xdp' | 'tcx' | 'cgroup' };

/** Devices of the world by ifindex. */
export const WORLD_DEVICES: readonly string[] = ['', 'eth0', 'eth1', 'lo'];
const ETH_HLEN = 14;
/** Devices by their link headers (include/uapi/linux/if_arp.h). */
const ARPHRD_ETHER = 1;
const ARPHRD_INFINIBAND = 32;
const FIB_SUCCESS = 0;
const FIB_NOT_FWDED = 4;
/** Offset in struct __sk_buff. */
const VLAN_PRESENT = 20;
const FIB_FWD_DISABLED = 5;
const BPF_FIB_LOOKUP_SKIP_NEIGH = 4;
const BPF_FIB_LOOKUP_SRC = 16;
/** Where skb->ip_summed lies in the byte of pkt_type. */
const CHECKSUM_PARTIAL = 3 << 5;

/** What arrives at the hook. */
export interface HookPacket {
  /** Destination and source; absent where devices have no link header. At cgroup it lies before the packet. */
  readonly ethernet: Uint8Array | undefined;
  /** Of a device that is no Ethernet device, in the place of an Ethernet header. */
  readonly link?: Uint8Array;
  /** Tags of the frame, the outer one first; tcx finds the first one beside the frame. */
  readonly tags: readonly { readonly protocol: number; readonly tci: number }[];
  /** What the frame says that it carries. */
  readonly etherType: number;
  readonly bytes: Uint8Array;
  /** Bytes behind the Ethernet header that are there; all when absent. */
  readonly carried?: number;
  /** The device of the hook. */
  readonly device: string;
  readonly packetType: number;
  readonly mark: number;
  /** Where a packet that leaves came in; 0: this host made it. */
  readonly cameInBy: number;
  /** The device that sends it is to finish its checksum. */
  readonly unfinished?: boolean;
  readonly conntrack?: MachinePacket['conntrack'];
}

export interface HookOutcome {
  /** As the program returned it, signed. */
  readonly verdict: number;
  readonly mark: number;
  /** The frame as the program left it. */
  readonly frame: Uint8Array;
  readonly redirectedTo: number | undefined;
  /** A tag beside the frame. */
  readonly tagged: boolean;
}

export class HookMachine {
  readonly machine: PolicyMachine;
  readonly #point: HookPoint;
  readonly #forwarding: boolean;
  #input: HookPacket | undefined;
  readonly #packet: Packet;
  readonly #xdp: XdpContext | undefined;
  readonly #skb: SkbContext | undefined;

  /** @param forwarding whether the host sends packets of others on */
  constructor(
    policy: CompiledPolicy,
    family: Family,
    point: HookPoint,
    { forwarding = true, ...options }: PolicyMachineOptions & { readonly forwarding?: boolean } = {},
  ) {
    this.#point = point;
    this.#forwarding = forwarding;
    this.machine = new PolicyMachine(policy, {
      ...options,
      environment: { fibLookup: (request) => this.#findRoute(request), ...options.environment },
      surroundings: {
        addresses: worldAddressTypes(family),
        devices: new Map([...WORLD_DEVICES.entries()].slice(1)),
        ...options.surroundings,
      },
    });
    const { machine } = this.machine;
    const hardware = machine.memory.allocate(8);
    machine.memory.addRegion('device address', hardware, 8, false);
    machine.memory.u8.set(DEVICE_MAC, hardware);
    for (const name of WORLD_DEVICES) this.machine.device(name)?.set('dev_addr', hardware);
    this.#packet = machine.createPacket();
    if (point.flavour === 'xdp') this.#xdp = new XdpContext(machine, this.#packet);
    else this.#skb = new SkbContext(machine, this.#packet);
  }

  counter(index: number): { readonly packets: bigint; readonly bytes: bigint } {
    return this.machine.counter(index);
  }

  run(input: HookPacket): HookOutcome {
    this.#input = input;
    const device = this.machine.device(input.device)!;
    device
      .set('type', input.link === undefined ? ARPHRD_ETHER : ARPHRD_INFINIBAND)
      .set('hard_header_len', input.link?.length ?? ETH_HLEN);
    const context = this.#xdp === undefined ? this.#asSkb(input, device) : this.#asFrame(input, device);
    const verdict = this.machine.dispatcher(entryIndex(this.#point))!.run(context) | 0;
    return {
      verdict,
      mark: this.#skb?.mark ?? 0,
      frame: this.#packet.bytes.slice(),
      redirectedTo: sentOutBy(this.machine.machine.redirection),
      tagged: this.#skb !== undefined && this.#word(this.#skb.address + VLAN_PRESENT) !== 0,
    };
  }

  #word(address: number): number {
    return this.machine.machine.memory.view.getUint32(address, true);
  }

  /** @throws {Error} for a request that says something else than the packet does */
  #findRoute(request: FibRequest): FibResult {
    const { family, destination } = request;
    const { bytes, device } = this.#input!;
    const answers = request.flags === (BPF_FIB_LOOKUP_SKIP_NEIGH | BPF_FIB_LOOKUP_SRC);
    const [from, length] = family === 'ipv4' ? [12, 4] : [8, 16];
    const sender = bytes.subarray(from, from + length);
    const asked = {
      ...request,
      source: Buffer.from(request.source).toString('hex'),
      destination: Buffer.from(destination).toString('hex'),
    };
    const right = {
      family,
      protocol: 0,
      sourcePort: 0,
      destinationPort: 0,
      source: answers ? '00'.repeat(length) : Buffer.from(sender).toString('hex'),
      destination: Buffer.from(answers ? sender : bytes.subarray(from + length, from + 2 * length)).toString(
        'hex',
      ),
      totalLength: 0,
      tos: answers || family === 'ipv6' ? 0 : bytes[1]!,
      ifindex: WORLD_DEVICES.indexOf(device),
      flags: answers ? request.flags : BPF_FIB_LOOKUP_SKIP_NEIGH,
    };
    for (const [field, value] of Object.entries(right))
      if (asked[field as keyof typeof right] !== value)
        throw new Error(`asks for a route with another ${field}`);
    if (!this.#forwarding) return { code: FIB_FWD_DISABLED };
    const out = forwardedTo(family, destination);
    if (out === undefined) return { code: FIB_NOT_FWDED };
    const fib = worldRouting(family);
    const sourceAddress = fib.sourceAddress(out, fib.nextHop(destination));
    return {
      code: FIB_SUCCESS,
      ifindex: WORLD_DEVICES.indexOf(out),
      ...(sourceAddress === undefined ? {} : { sourceAddress }),
    };
  }

  #asFrame(input: HookPacket, device: KernelObject): Context {
    this.#packet.set(frameOf(input, input.tags), ETH_HLEN);
    return this.#xdp!.setDevice(device);
  }

  #asSkb(input: HookPacket, device: KernelObject): Context {
    const atNetwork = this.#point.flavour === 'cgroup';
    const [outer, ...inner] = input.tags;
    if (input.link !== undefined) {
      this.#packet.set(Uint8Array.of(...input.link, ...input.bytes), input.link.length);
    } else if (atNetwork) {
      this.#packet.set(input.bytes, 0);
      if (input.ethernet !== undefined) this.#packet.setLinkHeader(frameOf(input, []).subarray(0, ETH_HLEN));
    } else {
      const frame = frameOf(input, inner);
      const bare = input.ethernet === undefined;
      this.#packet.set(bare ? frame.subarray(ETH_HLEN) : frame, bare ? 0 : ETH_HLEN);
      if (bare) this.#packet.setLinkHeader(new Uint8Array(0));
    }
    const context = this.#skb!;
    const protocol = inner[0]?.protocol ?? input.etherType;
    context.skb
      .set('dev', device)
      .set('__pkt_type_offset', input.packetType | (input.unfinished === true ? CHECKSUM_PARTIAL : 0))
      .set('vlan_proto', outer === undefined ? 0 : swapped(outer.protocol))
      .set('vlan_tci', outer?.tci ?? 0)
      .set('_nfct', this.machine.connectionWord(input.conntrack));
    return context.set({
      pktType: input.packetType,
      mark: input.mark,
      protocolBe: swapped(protocol),
      ifindex: WORLD_DEVICES.indexOf(input.device),
      ingressIfindex: input.cameInBy,
      ...(outer === undefined ? {} : { vlanProtoBe: swapped(outer.protocol), vlanTci: outer.tci }),
    });
  }
}

function swapped(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8);
}

/** Link header, tags, and what they carry. */
function frameOf({ ethernet, etherType, bytes, carried }: HookPacket, tags: HookPacket['tags']): Uint8Array {
  const frame = new Uint8Array(ETH_HLEN + 4 * tags.length + bytes.length);
  const view = new DataView(frame.buffer);
  frame.set(ethernet?.subarray(0, 12) ?? []);
  let at = 12;
  for (const { protocol, tci } of tags) {
    view.setUint16(at, protocol);
    view.setUint16(at + 2, tci);
    at += 4;
  }
  view.setUint16(at, etherType);
  frame.set(bytes, at + 2);
  return carried === undefined ? frame : frame.subarray(0, ETH_HLEN + carried);
}

/** The device that a packet of others leaves by; `undefined`: it is for this host, or for nobody. */
export function forwardedTo(family: Family, destination: Uint8Array): string | undefined {
  const fib = worldRouting(family);
  return fib.addressType(destination) === RouteTypeNumber.UNICAST ? fib.output(destination) : undefined;
}

function sentOutBy(redirection: Redirection | undefined): number | undefined {
  return redirection?.flags === 0 ? redirection.ifindex : undefined;
}
