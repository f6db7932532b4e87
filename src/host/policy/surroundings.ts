/** What a namespace adds to a generation: its addresses, its devices, kept as they are now; and the machine's clock rate. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import { type AddressType, type NetnsTables, surroundingsImage } from '../../compile/index.ts';
import {
  type ListedRoute,
  listDevices,
  listLocalRoutes,
  listRoutes,
  localTableHoldsMain,
  waitForGracePeriod,
} from '../../kernel/index.ts';
import { parsePrefix } from '../../net/index.ts';
import { RTN } from '../../rules/index.ts';
import { findRoom, type LiveGeneration } from './generation.ts';
import type { PolicyStore } from './store.ts';

const DEFAULT_HZ = 250;

/** CONFIG_HZ of the running kernel, from its configuration where that can be read. */
export function kernelHz(): number {
  knownHz ??= readHz();
  return knownHz;
}
let knownHz: number | undefined;

function readHz(): number {
  for (const read of [
    () => gunzipSync(readFileSync('/proc/config.gz')).toString('latin1'),
    () => readFileSync(`/boot/config-${release()}`, 'latin1'),
  ]) {
    try {
      const found = /^CONFIG_HZ=(\d+)$/m.exec(read())?.[1];
      if (found !== undefined) return Number(found);
    } catch {
      // Not there: the next one.
    }
  }
  return DEFAULT_HZ;
}

/** What programs ask of the calling thread's namespace, as it is now. */
export function netnsTables(): NetnsTables {
  return {
    addresses: addressTypes(),
    devices: new Map(listDevices().map(({ index, name }) => [index, name])),
  };
}

/**
 * What inet_dev_addr_type (net/ipv4/fib_frontend.c) and the look-ups of xt_addrtype (net/netfilter/xt_addrtype.c) say of
 * addresses: they ask the local table, and IPv6 takes the network address of an on-link network for an anycast one.
 */
function addressTypes(): AddressType[] {
  const own = listLocalRoutes().flatMap(({ address, prefixLength, type, index }): AddressType[] =>
    TOLD_TYPES.has(type) ? [{ value: address, prefixLength, type, device: index }] : [],
  );
  // Those that the kernel knows before it looks any further, and then the most exact: of equal prefixes the first counts.
  return [...ALWAYS, ...own, ...unicastWithin(own), ...onLinkNetworks()];
}

/**
 * Networks of the IPv4 main table that lie in a network which is local as a whole, where the kernel finds them first. Only
 * then is that table read: it may be long, and nobody routes parts of 127.0.0.0/8 elsewhere.
 */
function unicastWithin(own: readonly AddressType[]): AddressType[] {
  const wide = own.some(
    ({ value, prefixLength }) => value.length === 4 && prefixLength < 32 && value[0] !== LOOPBACK_NET,
  );
  if (!wide || !localTableHoldsMain()) return [];
  return listRoutes(['ipv4']).flatMap(({ destination, index = 0 }) =>
    destination === undefined
      ? []
      : [
          {
            value: destination.address,
            prefixLength: destination.prefixLength,
            type: RTN.UNICAST,
            device: index,
          },
        ],
  );
}

const LOOPBACK_NET = 127;
const LOOPBACK_IFINDEX = 1;

const TOLD_TYPES: ReadonlySet<number> = new Set([RTN.LOCAL, RTN.BROADCAST, RTN.ANYCAST]);

const ALWAYS: readonly AddressType[] = (
  [
    ['0.0.0.0/32', RTN.BROADCAST],
    ['255.255.255.255/32', RTN.BROADCAST],
    ['224.0.0.0/4', RTN.MULTICAST],
    ['ff00::/8', RTN.MULTICAST],
  ] as const
).map(([text, type]) => {
  const { address, length } = parsePrefix(text)!;
  return { value: address.bytes, prefixLength: length, type, device: 0 };
});

/** ipv6_anycast_destination (include/net/ip6_route.h): the address of a network that the best route to it has on a link. */
function onLinkNetworks(): AddressType[] {
  const best = new Map<string, { readonly length: number; readonly route: ListedRoute }>();
  for (const route of listRoutes(['ipv6'])) {
    const length = route.destination?.prefixLength ?? 0;
    const key = String(route.destination?.address ?? '');
    const known = best.get(key);
    // Routes to the same network come in the order of their metrics.
    if (known === undefined || known.length < length) best.set(key, { length, route });
  }
  return [...best.values()].flatMap(({ length, route: { destination, gateway, type, index = 0 } }) => {
    // Routes by lo are refusals (fib6_is_reject).
    if (length >= 127 || gateway !== undefined || type !== 'unicast' || index === LOOPBACK_IFINDEX) return [];
    const value = destination?.address ?? new Uint8Array(16);
    return [{ value, prefixLength: 128, type: RTN.ANYCAST, device: index }];
  });
}

/**
 * Lets the generation at `root` see the namespace as it is now, by one store; nothing is done when nothing has changed.
 * Needs the policy lock, in the namespace itself. Returns whether it stored. @throws {PolicyError} `HOST_POLICY_FULL`
 */
export function refreshSurroundings(store: PolicyStore, root: number, tables: NetnsTables): boolean {
  const generation = store.generation(root);
  settleSurroundings(generation);
  const image = surroundingsImage(tables);
  const current = generation.surroundings;
  if (sameBytes(current.bytes, image.build(current.pointer))) return false;
  const [pointer] = findRoom(store.arena.buffer.byteLength, store.extents(), [image.size]);
  new Uint8Array(store.arena.buffer).set(image.build(pointer!), pointer);
  generation.changeSurroundings(pointer!);
  settleSurroundings(generation);
  return true;
}

/** Waits for packets that still look at former surroundings, if there are any: their memory is free then. */
export function settleSurroundings(generation: LiveGeneration): void {
  if (!generation.isChangingSurroundings) return;
  waitForGracePeriod();
  generation.endSurroundingsChange();
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
