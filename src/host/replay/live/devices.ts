/**
 * The devices and routes of a replay's namespace, made as packets ask for them: TAP devices for packets with an Ethernet
 * header, TUN devices for those without. Routing is what the options say of it, device by device, in tables of its own:
 *
 *     0      local     loopback and groups, as everywhere
 *     10     1000+n    for device n: the prefixes that are this host
 *     32766  main      the routes that were given
 *     32800  2000+n    for device n: everything else goes back out by it
 *     32900  3000      what this host sends: by the default device, unless a device is asked for
 */
import {
  addAddress,
  addRoute,
  addRule,
  changeDevice,
  findDevice,
  PacketSocket,
  type Route,
  Tun,
  writeSysctl,
} from '../../../kernel/index.ts';
import { type Family, networkOf, type Prefix, parseAddress } from '../../../net/index.ts';
import { PacketType } from '../../../netstack/index.ts';
import type { ReplayOptions } from '../engine.ts';
import { DEFAULT_DEVICE } from '../host.ts';

const LOOPBACK = 'lo';
const LOOPBACK_INDEX = 1;
const LOCAL_TABLES = 1000;
const RETURN_TABLES = 2000;
const SENDING_TABLE = 3000;
const FIRST_METRIC = 1;
const LOCAL_PRIORITY = 10;
const RETURN_PRIORITY = 32_800;
const SENDING_PRIORITY = 32_900;
/** Any IP packet fits. */
const MTU = 65_521;
/** Frames that devices hold for us until they are thrown away. */
const UNREAD = 100;
const ETH_HLEN = 14;
/** IPv6 senders need an address of their own to be let through; one that no packet has. */
const LINK_LOCAL = parseAddress('fe80::5:1ce:5:1ce')!.bytes;
const BROADCAST_MAC = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
const GROUP_MAC = Uint8Array.of(0x01, 0, 0x5e, 0, 0, 0);
const OTHER_MAC = Uint8Array.of(0x02, 0x6f, 0x74, 0x68, 0x65, 0x72);

/** What reaches a hook when only one is asked: everything for this host, or nothing. */
export type Reach = 'as-told' | 'all-local' | 'none-local';

export interface Frame {
  readonly family: Family;
  readonly bytes: Uint8Array;
  /** 14 bytes of Ethernet header, when there was one. */
  readonly ethernet?: Uint8Array;
  readonly packetType: number;
}

interface Made {
  readonly index: number;
  readonly kind: 'tun' | 'tap' | 'loopback';
  readonly mac: Uint8Array;
  inject(frame: Uint8Array): void;
  drain(): void;
  close(): void;
}

/** All methods run in the namespace, which the caller enters. */
export class Devices {
  readonly #options: ReplayOptions;
  readonly #families: readonly Family[];
  readonly #reach: Reach;
  readonly #made = new Map<string, Made>();
  /** Devices that have had a number: rules name them for good, tables are by number. */
  readonly #numbers = new Map<string, number>();
  #injected = 0;

  constructor(options: ReplayOptions, families: readonly Family[], reach: Reach) {
    this.#options = options;
    this.#families = families;
    this.#reach = reach;
    for (const [name, value] of SYSCTLS) writeSysctl(name, value);
    changeDevice(LOOPBACK_INDEX, { up: true });
    for (const family of families) addRule({ family, priority: SENDING_PRIORITY, table: SENDING_TABLE });
    for (const { device } of options.routes) this.#require(device, 'tun');
  }

  /** Makes the device that packets of this host leave by, all but those with a route. */
  prepareSending(): void {
    this.#require(this.#sendingName, 'tun');
  }

  index(name: string): number {
    return this.#require(name, this.#made.get(name)?.kind ?? 'tun').index;
  }

  /** The index of the device that takes such frames, made if it is not there. */
  indexFor(name: string, frame: Frame): number {
    return this.#deviceFor(name, frame).index;
  }

  /** Lets a packet come in by the device. */
  inject(name: string, frame: Frame): void {
    const { family, bytes, ethernet, packetType } = frame;
    const device = this.#deviceFor(name, frame);
    if (device.kind === 'tun') {
      device.inject(bytes);
    } else {
      const whole = new Uint8Array(ETH_HLEN + bytes.length);
      if (ethernet !== undefined) whole.set(ethernet);
      whole.set(destinationMac(packetType, ethernet, device.mac));
      whole.set(family === 'ipv4' ? [0x08, 0x00] : [0x86, 0xdd], ETH_HLEN - 2);
      whole.set(bytes, ETH_HLEN);
      device.inject(whole);
    }
    this.drain();
  }

  /** Throws away what the namespace has sent, now and then. */
  drain(): void {
    if (++this.#injected % UNREAD === 0) for (const device of this.#made.values()) device.drain();
  }

  close(): void {
    for (const device of this.#made.values()) device.close();
    this.#made.clear();
  }

  get #sendingName(): string {
    return this.#options.inDevice ?? DEFAULT_DEVICE;
  }

  #deviceFor(name: string, { ethernet, packetType }: Frame): Made {
    const framed = ethernet !== undefined || packetType !== PacketType.HOST;
    return this.#require(name, framed ? 'tap' : 'tun');
  }

  #require(name: string, kind: Made['kind']): Made {
    const known = this.#made.get(name);
    if (known !== undefined && (known.kind === kind || known.kind === 'loopback')) return known;
    known?.close();
    const made = name === LOOPBACK ? loopback() : create(name, kind === 'tap' ? 'tap' : 'tun');
    this.#made.set(name, made);
    this.#route(name, made.index);
    return made;
  }

  /** Routes end with their device; rules stay. */
  #route(name: string, index: number): void {
    const known = this.#numbers.get(name);
    const number = known ?? this.#numbers.size + 1;
    this.#numbers.set(name, number);
    for (const family of this.#families) {
      if (known === undefined) {
        const rule = { family, inDevice: name };
        addRule({ ...rule, priority: LOCAL_PRIORITY, table: LOCAL_TABLES + number });
        addRule({ ...rule, priority: RETURN_PRIORITY, table: RETURN_TABLES + number });
      }
      for (const destination of this.#local(family))
        addRoute({ family, index, type: 'local', table: LOCAL_TABLES + number, ...destination });
      if (name === LOOPBACK) continue;
      addRoute({ family, index, table: RETURN_TABLES + number });
      const metric = name === this.#sendingName ? FIRST_METRIC : FIRST_METRIC + number;
      addRoute({ family, index, table: SENDING_TABLE, metric });
      for (const { prefix, device } of this.#options.routes) {
        if (device !== name || prefix.address.family !== family) continue;
        addRoute({ family, index, ...destinationOf(prefix) });
      }
      if (family === 'ipv6') addAddress({ index, address: LINK_LOCAL, prefixLength: 128 });
    }
  }

  /** The prefixes that are this host. */
  #local(family: Family): Pick<Route, 'destination'>[] {
    const { vantage } = this.#options;
    if (this.#reach === 'none-local') return [];
    if (this.#reach === 'all-local' || vantage.kind !== 'host' || vantage.local.length === 0) return [{}];
    return vantage.local.filter(({ address }) => address.family === family).map(destinationOf);
  }
}

function destinationOf(prefix: Prefix): Pick<Route, 'destination'> {
  const { address, length } = networkOf(prefix);
  return length === 0 ? {} : { destination: { address: address.bytes, prefixLength: length } };
}

/** Forwarding on, nothing a martian that need not be, nothing said on the namespace's own account. */
const SYSCTLS: readonly (readonly [string, number])[] = [
  ['net/ipv4/ip_forward', 1],
  ['net/ipv6/conf/all/forwarding', 1],
  ...['all', 'default'].flatMap((which) => [
    [`net/ipv4/conf/${which}/rp_filter`, 0] as const,
    [`net/ipv4/conf/${which}/accept_local`, 1] as const,
    [`net/ipv4/conf/${which}/route_localnet`, 1] as const,
    [`net/ipv4/conf/${which}/send_redirects`, 0] as const,
    [`net/ipv6/conf/${which}/accept_ra`, 0] as const,
    [`net/ipv6/conf/${which}/accept_dad`, 0] as const,
    [`net/ipv6/conf/${which}/router_solicitations`, 0] as const,
  ]),
  // No addresses but those that are given.
  ['net/ipv6/conf/default/addr_gen_mode', 1],
  ['net/ipv4/igmp_max_memberships', 100_000],
];

function create(name: string, kind: 'tun' | 'tap'): Made {
  const tun = Tun.create(kind, name);
  try {
    const { index, mac } = findDevice(name)!;
    changeDevice(index, { up: true, arp: false, mtu: MTU });
    return {
      index,
      kind,
      mac,
      inject: (frame) => tun.write(frame),
      drain: () => {
        while (tun.read() !== undefined);
      },
      close: () => tun.close(),
    };
  } catch (error) {
    tun.close();
    throw error;
  }
}

/** What goes out by lo comes in by lo. */
function loopback(): Made {
  const socket = new PacketSocket({ ifindex: LOOPBACK_INDEX });
  return {
    index: LOOPBACK_INDEX,
    kind: 'loopback',
    mac: new Uint8Array(6),
    inject: (frame) => socket.send(frame),
    drain: () => {
      while (socket.receive() !== undefined);
    },
    close: () => socket.close(),
  };
}

/** The address that lets the kernel see this packet type (eth_type_trans). */
function destinationMac(packetType: number, ethernet: Uint8Array | undefined, own: Uint8Array): Uint8Array {
  const captured = ethernet?.subarray(0, 6);
  switch (packetType) {
    case PacketType.BROADCAST:
      return BROADCAST_MAC;
    case PacketType.MULTICAST:
      return captured !== undefined && (captured[0]! & 1) === 1 ? captured : GROUP_MAC;
    case PacketType.OTHERHOST:
      return captured ?? OTHER_MAC;
    default:
      return own;
  }
}
