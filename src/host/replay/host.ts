/** Evaluation hosts for a replay: one per family, with conntrack and reassembly of the netstack on the capture's clock. */
import { type Family, prefixContainsBytes } from '../../net/index.ts';
import {
  Conntrack,
  ETH_P_IP,
  ETH_P_IPV6,
  Ip6DefragUser,
  IpDefragUser,
  ipDefrag,
  type ManualClock,
  type NetDevice,
  NetworkNamespace,
  nfCtFrag6Gather,
  SkBuff,
} from '../../netstack/index.ts';
import {
  createHost,
  type EvaluationHost,
  needsConntrack,
  type Reassembler,
  type Routing,
  RTN,
  type Ruleset,
} from '../../rules/index.ts';
import type { ReplayOptions } from './engine.ts';

/** What packets come in by when nothing says otherwise. */
export const DEFAULT_DEVICE = 'eth0';

/** A host that has these rules and lives on this clock. @throws {UnsupportedRulesError} */
export function replayHost(ruleset: Ruleset, options: ReplayOptions, clock: ManualClock): EvaluationHost {
  const conntrack = needsConntrack(ruleset)
    ? new Conntrack({ clock, settings: { checksum: options.verifyChecksums } })
    : undefined;
  return createHost({
    ruleset,
    routing: replayRouting(ruleset.family, options),
    nowMs: () => clock.nowMs(),
    random32: options.random32,
    reassembler: namespaceReassembler(clock),
    ...(conntrack === undefined ? {} : { conntrack }),
  });
}

/** Local prefixes are this host; everything else is reached by the out device, and nothing is a martian. */
function replayRouting(family: Family, options: ReplayOptions): Routing {
  const { vantage } = options;
  const local =
    vantage.kind === 'host' ? vantage.local.filter(({ address }) => address.family === family) : [];
  const addressType = (address: Uint8Array): number => {
    if (local.some((prefix) => prefixContainsBytes(prefix, address))) return RTN.LOCAL;
    return family === 'ipv4' ? ipv4Type(address) : ipv6Type(address);
  };
  const everythingIsLocal = vantage.kind === 'host' && vantage.local.length === 0;
  return {
    addressType,
    input: (_source, destination, inDevice) =>
      everythingIsLocal || addressType(destination) !== RTN.UNICAST
        ? { kind: 'local' }
        : { kind: 'forward', outDevice: outDevice(options, destination, inDevice) },
    output: (destination) => outDevice(options, destination, options.inDevice ?? DEFAULT_DEVICE),
  };
}

/** The device that packets to an address leave by. */
export function outDevice(options: ReplayOptions, destination: Uint8Array, inDevice: string): string {
  const fitting = options.routes.filter(({ prefix }) => prefixContainsBytes(prefix, destination));
  return fitting.sort((a, b) => b.prefix.length - a.prefix.length)[0]?.device ?? inDevice;
}

/** The types that an address has by itself, whatever is configured. */
function ipv4Type(address: Uint8Array): number {
  const first = address[0]!;
  if (first === 127) return RTN.LOCAL;
  if (first >> 4 === 0xe) return RTN.MULTICAST;
  const limits = address.every((byte) => byte === 255) || address.every((byte) => byte === 0);
  return limits ? RTN.BROADCAST : RTN.UNICAST;
}

function ipv6Type(address: Uint8Array): number {
  if (address[0] === 0xff) return RTN.MULTICAST;
  const loopback = address.every((byte, index) => byte === (index === 15 ? 1 : 0));
  return loopback ? RTN.LOCAL : RTN.UNICAST;
}

/** Reassembly of a namespace of its own, on the replay's clock. */
function namespaceReassembler(clock: ManualClock): Reassembler {
  const net = new NetworkNamespace(1n, clock);
  const devices = new Map<string, NetDevice>();
  const device = (name: string): NetDevice => {
    const known = devices.get(name);
    if (known !== undefined) return known;
    const made: NetDevice = {
      ifindex: devices.size + 1,
      name,
      loopback: name === 'lo',
      l3mdevIfindex: 0,
      mtu: 1500,
    };
    devices.set(name, made);
    net.addDevice(made);
    return made;
  };
  return {
    reassemble(fragment, family, where, inDevice) {
      net.runTimers();
      const skb = new SkBuff(fragment.slice(), {
        protocol: family === 'ipv4' ? ETH_P_IP : ETH_P_IPV6,
        dev: inDevice === '' ? undefined : device(inDevice),
      });
      const user = where === 'delivery' ? IpDefragUser.LOCAL_DELIVER : IpDefragUser.CONNTRACK_IN;
      const result =
        family === 'ipv4' ? ipDefrag(net, skb, user) : nfCtFrag6Gather(net, skb, Ip6DefragUser.CONNTRACK_IN);
      return result === 0 ? skb.data : undefined;
    },
  };
}
