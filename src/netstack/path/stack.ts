/**
 * One host: a namespace with devices, addresses and routes, and the way of a packet through it. Packets go in by
 * {@link NetworkStack.receive} and {@link NetworkStack.send}; what leaves and what arrives is told to the surroundings.
 */
import type { Family } from '../../net/index.ts';
import type { Clock } from '../clock.ts';
import { Conntrack } from '../conntrack/conntrack.ts';
import type { ConntrackSettings } from '../conntrack/settings.ts';
import type { RouteType } from '../defrag/context.ts';
import type { DefragEvent } from '../defrag/trace.ts';
import { TcxHooks } from '../hooks/link/tcx.ts';
import { XdpHooks } from '../hooks/link/xdp.ts';
import { NatHooks } from '../nat/hook.ts';
import { Nat } from '../nat/nat.ts';
import type { HostAddresses } from '../nat/targets.ts';
import { NetworkNamespace } from '../netns.ts';
import { ETH_P_IP, ETH_P_IPV6, type NetDevice, PacketType, SkBuff, type SocketOwner } from '../skb.ts';
import type { SocketTable } from '../sockets/table.ts';
import type { PathDrop, PathTrace } from './event.ts';
import { type DeviceAddress, type DeviceInput, type Fib, RouteTypeNumber, type StaticRoute } from './fib.ts';
import { IcmpSender } from './icmp.ts';
import { type ProgramRunner, receiveFromDevice } from './ingress.ts';
import { routeOutput, sendLocal } from './output.ts';
import { createFib } from './routing.ts';
import { DEFAULT_PATH_SETTINGS, type PathSettings } from './settings.ts';
import { registerConntrack } from './tracking.ts';

export interface DeviceConfig {
  readonly name: string;
  /** Default: 1 for lo, else counted from 2 in the order given. */
  readonly ifindex?: number;
  readonly mtu?: number;
  /** net.ipv4.conf.DEVICE; what is not given is as for all. */
  readonly input?: DeviceInput;
}

/** What a protocol makes of a packet that was delivered. */
export type Delivery = 'accepted' | 'no-port' | 'no-protocol';

export interface StackConfig {
  readonly clock: Clock;
  /** Milliseconds since 1970, UTC, for timestamps; default: the clock is that. */
  readonly wallMs?: () => number;
  /** 32 random bits: ports where the kernel draws them, identifications. */
  readonly random32: () => number;
  /** `lo` is always there. */
  readonly devices: readonly DeviceConfig[];
  readonly addresses: readonly DeviceAddress[];
  readonly routes: readonly StaticRoute[];
  readonly settings?: Partial<PathSettings>;
  /** Switches conntrack on, and defragmentation with it. */
  readonly conntrack?: Partial<ConntrackSettings>;
  /** SO_NETNS_COOKIE; default 1. */
  readonly cookie?: bigint;
  /** TCP and UDP sockets that rules may ask about before delivery; delivery itself is `deliver`'s. */
  readonly sockets?: SocketTable;
  /** A packet has passed LOCAL_IN. Default: every one is accepted. */
  deliver?(skb: SkBuff, protocol: number): Delivery;
  /** A packet leaves by a device; `packet` begins at the network header. */
  transmit?(device: NetDevice, packet: Uint8Array, skb: SkBuff): void;
  /** Runs programs of XDP and tcx links; without it they are passed over. */
  readonly runProgram?: ProgramRunner;
  readonly trace?: PathTrace;
}

/** What a packet may start with beyond its bytes. */
export interface ReceivedPacket {
  readonly family: Family;
  /** From the network header; what follows the packet is trimmed. */
  readonly bytes: Uint8Array;
  readonly mac?: Uint8Array | undefined;
  readonly pktType?: number;
  readonly mark?: number;
  /** Who sends it, when a process of this host does. */
  readonly sender?: SocketOwner | undefined;
}

const LOOPBACK_MTU = 65_536;
const ETHERNET_MTU = 1500;

export class NetworkStack {
  readonly net: NetworkNamespace;
  readonly settings: PathSettings;
  readonly conntrack: Conntrack | undefined;
  readonly nat: Nat | undefined;
  readonly natHooks: NatHooks | undefined;
  readonly icmp: IcmpSender;
  readonly xdp: XdpHooks;
  readonly tcx: TcxHooks;
  readonly random32: () => number;
  readonly runProgram: ProgramRunner | undefined;
  readonly sockets: SocketTable | undefined;
  readonly trace: PathTrace | undefined;
  readonly #config: StackConfig;
  readonly #devices = new Map<string, NetDevice>();
  readonly #fibs = new Map<Family, Fib>();
  readonly #later: (() => void)[] = [];
  #running = false;
  #explained: PathDrop | undefined;
  #held = false;

  constructor(config: StackConfig) {
    this.#config = config;
    this.settings = { ...DEFAULT_PATH_SETTINGS, ...config.settings };
    this.random32 = config.random32;
    this.runProgram = config.runProgram;
    this.sockets = config.sockets;
    this.trace = config.trace;
    this.icmp = new IcmpSender(this);
    this.net = new NetworkNamespace(config.cookie ?? 1n, config.clock, {
      routeInput: (source, destination, dev) => this.#routeType(source, destination, dev),
      sendIcmpError: (error) => this.enqueue(() => this.icmp.send(error)),
      reroute: (skb) => routeOutput(this, skb),
      packetFreed: () => this.drop(this.#explained ?? 'netfilter'),
      traceDefrag: (event) => this.#traceDefrag(event),
    });
    this.xdp = new XdpHooks((ifindex) => this.net.deviceByIndex(ifindex));
    this.tcx = new TcxHooks((ifindex) => this.net.deviceByIndex(ifindex));
    this.#addDevices(config.devices);
    for (const family of ['ipv4', 'ipv6'] as const) this.#fibs.set(family, this.#createFib(family));
    if (config.conntrack === undefined) return;
    const { clock } = config;
    this.conntrack = new Conntrack({ clock, settings: config.conntrack });
    this.nat = new Nat({ conntrack: this.conntrack, random16: () => this.random32() >>> 16 });
    this.natHooks = new NatHooks(this.nat, this.net.netfilter.registry, (skb) => routeOutput(this, skb));
    registerConntrack(this);
  }

  fib(family: Family): Fib | undefined {
    return this.#fibs.get(family);
  }

  /** Whether packets that come in by the device are handed on (net.ipv4.conf.DEVICE.forwarding). */
  forwards(family: Family, device: NetDevice): boolean {
    const own = family === 'ipv4' ? this.#fibs.get(family)?.config.devices?.get(device.name) : undefined;
    return own?.forwarding ?? this.settings.forwarding[family];
  }

  deviceByName(name: string): NetDevice | undefined {
    return this.#devices.get(name);
  }

  /** Addresses as translation asks for them. */
  get addresses(): HostAddresses {
    return {
      sourceTowards: (family, device, destination) => {
        const fib = this.#fibs.get(family)!;
        return fib.sourceAddress(device, fib.nextHop(destination));
      },
      ownAddress: (family, device, destination) => {
        const fib = this.#fibs.get(family)!;
        if (family === 'ipv6') return fib.sourceAddress(device, destination);
        return fib.config.addresses.find((own) => own.device === device)?.prefix.address.bytes;
      },
    };
  }

  /** Milliseconds since 1970, UTC. */
  wallMs(): number {
    return this.#config.wallMs?.() ?? this.net.clock.nowMs();
  }

  /** A packet comes in by a device. Fires the timers that are due first. @throws RangeError when there is no such device */
  receive(packet: ReceivedPacket, deviceName: string): void {
    const device = this.#devices.get(deviceName);
    if (device === undefined) throw new RangeError(`no device ${deviceName}`);
    const skb = this.#skb(packet, device);
    this.#run(() => receiveFromDevice(this, skb, device));
  }

  /** A process of this host sends a packet: whole, with its checksums. */
  send(packet: ReceivedPacket): void {
    const skb = this.#skb(packet, undefined);
    this.#run(() => sendLocal(this, skb));
  }

  /** The stack itself sends: an answer, an error. */
  sendSkb(skb: SkBuff): void {
    this.enqueue(() => sendLocal(this, skb));
  }

  /** Work that begins when the packet at hand has ended its path. */
  enqueue(work: () => void): void {
    this.#later.push(work);
    if (!this.#running) this.#run(() => {});
  }

  deliver(skb: SkBuff, protocol: number): Delivery {
    const result = this.#config.deliver?.(skb, protocol) ?? 'accepted';
    if (result === 'accepted') this.trace?.({ kind: 'delivered', protocol });
    else this.drop('no-listener');
    return result;
  }

  /** Hands a finished packet to the wire. */
  emit(device: NetDevice, packet: Uint8Array, skb: SkBuff): void {
    this.trace?.({ kind: 'transmitted', device: device.name, bytes: packet });
    this.#config.transmit?.(device, packet, skb);
  }

  drop(reason: PathDrop): void {
    this.#explained = undefined;
    this.trace?.({ kind: 'dropped', reason });
  }

  /** Names the reason of the drop that a hook function is about to ask for. */
  explainDrop(reason: PathDrop): void {
    this.#explained = reason;
  }

  /** Tells of a drop, unless the packet waits in reassembly, or reassembly has told of it. */
  dropUnlessHeld(reason: PathDrop): void {
    if (!this.#held) this.drop(reason);
  }

  #run(work: () => void): void {
    this.#running = true;
    this.net.runTimers();
    this.#held = false;
    this.#explained = undefined;
    try {
      work();
      for (let next = this.#later.shift(); next !== undefined; next = this.#later.shift()) {
        this.trace?.({ kind: 'consequence' });
        next();
      }
    } finally {
      this.#running = false;
      this.#later.length = 0;
    }
  }

  #skb({ family, bytes, mac, pktType, mark, sender }: ReceivedPacket, device: NetDevice | undefined): SkBuff {
    const skb = new SkBuff(bytes, {
      protocol: family === 'ipv4' ? ETH_P_IP : ETH_P_IPV6,
      dev: device,
      mac,
      pktType: pktType ?? PacketType.HOST,
      mark: mark ?? 0,
    });
    skb.sender = sender;
    return skb;
  }

  #addDevices(devices: readonly DeviceConfig[]): void {
    const all = devices.some(({ name }) => name === 'lo') ? devices : [{ name: 'lo' }, ...devices];
    let next = 2;
    for (const { name, ifindex, mtu } of all as readonly DeviceConfig[]) {
      const loopback = name === 'lo';
      const device: NetDevice = {
        ifindex: ifindex ?? (loopback ? 1 : next++),
        name,
        loopback,
        l3mdevIfindex: 0,
        mtu: mtu ?? (loopback ? LOOPBACK_MTU : ETHERNET_MTU),
      };
      next = Math.max(next, device.ifindex + 1);
      this.net.addDevice(device);
      this.#devices.set(name, device);
    }
  }

  #createFib(family: Family): Fib {
    const { addresses, routes } = this.#config;
    return createFib({
      family,
      addresses: addresses.filter(({ prefix }) => prefix.address.family === family),
      routes: routes.filter(({ prefix }) => prefix.address.family === family),
      forwarding: this.settings.forwarding[family],
      rpFilter: this.settings.rpFilter,
      routeLocalnet: this.settings.routeLocalnet,
      sendRedirects: this.settings.sendRedirects,
      devices: new Map(this.#config.devices.flatMap(({ name, input }) => (input ? [[name, input]] : []))),
    });
  }

  #routeType(source: Uint8Array, destination: Uint8Array, dev: NetDevice): RouteType | undefined {
    const fib = this.#fibs.get(source.length === 4 ? 'ipv4' : 'ipv6')!;
    const decision = fib.input(source, destination, dev.name);
    if (decision.kind === 'drop') return undefined;
    if (decision.kind === 'forward') return 'unicast';
    const type = fib.addressType(destination);
    if (type === RouteTypeNumber.BROADCAST) return 'broadcast';
    return type === RouteTypeNumber.MULTICAST ? 'multicast' : 'local';
  }

  #traceDefrag(event: DefragEvent): void {
    switch (event.kind) {
      case 'queued':
        this.#held = true;
        this.trace?.({ kind: 'held' });
        break;
      case 'completed':
        this.trace?.({ kind: 'reassembled', length: event.skb.length, fragments: event.fragments });
        break;
      case 'discarded':
        this.#held = true;
        this.trace?.({ kind: 'dropped', reason: 'reassembly', discard: event.reason });
        break;
    }
  }
}
