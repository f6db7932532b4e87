/** Evaluation hosts for a replay: one per family, with conntrack and reassembly of the netstack on the capture's clock. */
import type { AddressType } from '../../compile/index.ts';
import { type Family, networkOf, type Prefix, parsePrefix, prefixContainsBytes } from '../../net/index.ts';
import {
  type Clock,
  Conntrack,
  ETH_P_IP,
  ETH_P_IPV6,
  Ip6DefragUser,
  IpDefragUser,
  ipDefrag,
  type NetDevice,
  NetworkNamespace,
  nfCtFrag6Gather,
  SkBuff,
} from '../../netstack/index.ts';
import {
  createHost,
  type EvaluationHost,
  needsConntrack,
  type PlainSet,
  type Reassembler,
  type Routing,
  RTN,
  type Ruleset,
  type RunTable,
} from '../../rules/index.ts';
import type { ReplayClock } from './clock.ts';
import type { ReplayOptions } from './engine.ts';

/** What packets come in by when nothing says otherwise. */
export const DEFAULT_DEVICE = 'eth0';

/**
 * A host that has these rules and lives on this clock.
 * @param runTable what runs its tables, when not the evaluator
 * @throws {UnsupportedRulesError}
 */
export function replayHost(
  ruleset: Ruleset,
  options: ReplayOptions,
  clock: ReplayClock,
  runTable?: RunTable,
  sets?: ReadonlyMap<string, PlainSet>,
): EvaluationHost {
  const conntrack = needsConntrack(ruleset)
    ? new Conntrack({ clock, settings: { checksum: options.verifyChecksums } })
    : undefined;
  return createHost({
    ruleset,
    routing: replayRouting(ruleset.family, options),
    nowMs: () => clock.nowMs(),
    wallMs: () => clock.wallMs(),
    random32: options.random32,
    reassembler: namespaceReassembler(clock),
    ...(conntrack === undefined ? {} : { conntrack }),
    ...(runTable === undefined ? {} : { runTable }),
    ...(sets === undefined ? {} : { sets }),
  });
}

/** Local prefixes are this host; everything else is reached by the out device, and nothing is a martian. */
function replayRouting(family: Family, options: ReplayOptions): Routing {
  const { vantage } = options;
  const types = addressTypes(family, options);
  const addressType = (address: Uint8Array): number =>
    types.find(({ prefix }) => prefixContainsBytes(prefix, address))?.type ?? RTN.UNICAST;
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

/** What every host has: loopback, broadcast, multicast. */
const OWN_TYPES: readonly (readonly [prefix: string, type: number])[] = [
  ['127.255.255.255/32', RTN.BROADCAST],
  ['127.0.0.0/8', RTN.LOCAL],
  ['0.0.0.0/32', RTN.BROADCAST],
  ['255.255.255.255/32', RTN.BROADCAST],
  ['224.0.0.0/4', RTN.MULTICAST],
  ['::1/128', RTN.LOCAL],
  ['ff00::/8', RTN.MULTICAST],
];

/** Route types of the host's addresses, longest prefix first; all others are unicast. */
function addressTypes(
  family: Family,
  { vantage }: ReplayOptions,
): readonly { readonly prefix: Prefix; readonly type: number }[] {
  const local = vantage.kind === 'host' ? vantage.local : [];
  const types = [
    ...local.map((prefix) => ({ prefix: networkOf(prefix), type: RTN.LOCAL })),
    ...OWN_TYPES.map(([text, type]) => ({ prefix: parsePrefix(text)!, type })),
  ];
  return types
    .filter(({ prefix }) => prefix.address.family === family)
    .sort((a, b) => b.prefix.length - a.prefix.length);
}

/** The same as a generation's table has them. */
export function generationAddresses(options: ReplayOptions): AddressType[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) =>
    addressTypes(family, options).map(({ prefix, type }) => ({
      value: prefix.address.bytes,
      prefixLength: prefix.length,
      type,
      device: 0,
    })),
  );
}

/** Reassembly as a namespace of its own does it, device by device, on the clock given. */
export function namespaceReassembler(clock: Clock): Reassembler {
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
      const skb = new SkBuff(fragment.bytes.slice(), {
        protocol: family === 'ipv4' ? ETH_P_IP : ETH_P_IPV6,
        dev: inDevice === '' ? undefined : device(inDevice),
        mac: fragment.ethernet,
        pktType: fragment.packetType,
        mark: fragment.mark,
      });
      const user = where === 'delivery' ? IpDefragUser.LOCAL_DELIVER : IpDefragUser.CONNTRACK_IN;
      const result =
        family === 'ipv4' ? ipDefrag(net, skb, user) : nfCtFrag6Gather(net, skb, Ip6DefragUser.CONNTRACK_IN);
      if (result !== 0) return undefined;
      return { bytes: skb.data, ethernet: skb.mac, packetType: skb.pktType, mark: skb.mark };
    },
  };
}
