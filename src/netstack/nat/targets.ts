/**
 * What the nat targets of iptables make of their ranges, with the addresses of the host around them.
 * Sources: net/netfilter/xt_nat.c, xt_NETMAP.c, nf_nat_masquerade.c, nf_nat_redirect.c.
 */
import type { Family } from '../../net/index.ts';
import type { Entry } from '../conntrack/entry.ts';
import { NF_INET_LOCAL_OUT } from '../hooks/family.ts';
import type { NfHookState } from '../hooks/state.ts';
import { NF_ACCEPT, NF_DROP } from '../hooks/verdict.ts';
import type { SkBuff } from '../skb.ts';
import { manipOfHook, type Nat } from './nat.ts';
import type { NatRange } from './range.ts';

/** Addresses of the host, as translation asks for them; network order. */
export interface HostAddresses {
  /** The one the host shows by `device` to the next hop towards `destination`. */
  sourceTowards(family: Family, device: string, destination: Uint8Array): Uint8Array | undefined;
  /** Where a connection is redirected to that came in by `device`. */
  ownAddress(family: Family, device: string, destination: Uint8Array): Uint8Array | undefined;
}

const LOOPBACK: Readonly<Record<Family, Uint8Array>> = {
  ipv4: new Uint8Array([127, 0, 0, 1]),
  ipv6: new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
};

/** SNAT and DNAT: the range as it is. */
export function translateTo(nat: Nat, entry: Entry, range: NatRange, state: NfHookState): number {
  return nat.setup(entry, range, manipOfHook(state.hook));
}

/** MASQUERADE: the address of the device that the packet leaves by. Drops where there is none. */
export function masquerade(
  nat: Nat,
  entry: Entry,
  range: NatRange,
  skb: SkBuff,
  state: NfHookState,
  host: HostAddresses,
): number {
  const { family } = entry.original;
  // A source of all zeros has not been given an address yet (DHCP): it stays.
  if (family === 'ipv4' && entry.original.source.every((byte) => byte === 0)) return NF_ACCEPT;
  const { out } = state;
  const destination = family === 'ipv4' ? skb.data.subarray(16, 20) : skb.data.subarray(24, 40);
  const address = out === undefined ? undefined : host.sourceTowards(family, out.name, destination);
  if (out === undefined || address === undefined) return NF_DROP;
  entry.masqueradeIfindex = out.ifindex;
  return nat.setup(entry, { ...range, addresses: { min: address, max: address } }, 'source');
}

/** REDIRECT: an address of this host: of the device it came in by, or loopback for its own connections. */
export function redirect(
  nat: Nat,
  entry: Entry,
  range: NatRange,
  state: NfHookState,
  host: HostAddresses,
): number {
  const { family, destination } = entry.original;
  const address =
    state.hook === NF_INET_LOCAL_OUT
      ? LOOPBACK[family]
      : state.in === undefined
        ? undefined
        : host.ownAddress(family, state.in.name, destination);
  if (address === undefined) return NF_DROP;
  return nat.setup(entry, { ...range, addresses: { min: address, max: address } }, 'destination');
}

/** NETMAP: the network part is replaced, the host part stays; ports stay where they can. */
export function mapNetwork(
  nat: Nat,
  entry: Entry,
  network: Uint8Array,
  mask: Uint8Array,
  skb: SkBuff,
  state: NfHookState,
): number {
  const manip = manipOfHook(state.hook);
  const length = network.length;
  const from = (length === 4 ? 12 : 8) + (manip === 'source' ? 0 : length);
  const address = network.map(
    (byte, index) => (byte & mask[index]!) | (skb.data[from + index]! & ~mask[index]!),
  );
  return nat.setup(entry, { addresses: { min: address, max: address } }, manip);
}
