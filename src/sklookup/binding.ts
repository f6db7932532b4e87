/**
 * Bindings: which traffic goes to which label's sockets. A binding says more than bind(2) can: a whole prefix, a
 * range of ports or all of them, and optionally where the traffic comes from.
 */
import {
  ALL_PORTS,
  type Family,
  formatPortRange,
  formatPrefix,
  type PortRange,
  type Prefix,
  portRangeContains,
  prefixContainsBytes,
} from '../net/index.ts';

export type Protocol = 'tcp' | 'udp';
/** IPPROTO_TCP and IPPROTO_UDP. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17 };

export interface Binding {
  readonly label: string;
  readonly protocol: Protocol;
  /** Destination, host bits cleared; its family is the family of the packets that it means. */
  readonly prefix: Prefix;
  /** Destination ports, host order; all of them is 0-65535. */
  readonly ports: PortRange;
  /** Only traffic from here. */
  readonly source?: Prefix;
  /** Only traffic that came in by this device. */
  readonly device?: string;
  /** Only traffic from this port, host order. */
  readonly remotePort?: number;
}

/** What a look-up knows of a packet. Addresses are 4 or 16 bytes in network order, ports in host order. */
export interface LookupTuple {
  readonly protocol: Protocol;
  readonly localAddress: Uint8Array;
  readonly localPort: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  /** Name of the ingress device; empty for none. */
  readonly device: string;
}

/** A label is a name that people and metrics see: 1 to 63 letters, digits and `._-`, not starting with a dash. */
export function isLabel(text: string): boolean {
  return /^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,62}$/.test(text);
}

export function bindingFamily(binding: Binding): Family {
  return binding.prefix.address.family;
}

/** True when the binding takes the packet. */
export function bindingMatches(binding: Binding, tuple: LookupTuple): boolean {
  return (
    binding.protocol === tuple.protocol &&
    prefixContainsBytes(binding.prefix, tuple.localAddress) &&
    portRangeContains(binding.ports, tuple.localPort) &&
    (binding.source === undefined || prefixContainsBytes(binding.source, tuple.remoteAddress)) &&
    (binding.device === undefined || binding.device === tuple.device) &&
    (binding.remotePort === undefined || binding.remotePort === tuple.remotePort)
  );
}

/**
 * Equal exactly for bindings that mean the same traffic, whatever their labels: a second one replaces the first. No text for
 * people: 16 bits a character, because sets of a million are compared by it.
 */
export function trafficKey(binding: Binding): string {
  const { protocol, prefix, ports, source, device, remotePort } = binding;
  const plain = prefixKey(prefix, protocol === 'tcp' ? 0 : 1, ports.min, ports.max);
  if (source === undefined && device === undefined && remotePort === undefined) return plain;
  return `${plain} ${source === undefined ? '' : prefixKey(source)} ${device ?? ''} ${remotePort ?? ''}`;
}

/** Made in one call: a text that is put together of parts is put together again when it is compared. */
function prefixKey({ address: { bytes }, length }: Prefix, ...more: readonly number[]): string {
  const pair = (at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
  if (bytes.length === 4) return String.fromCharCode(...more, length, pair(0), pair(2));
  const rest = [pair(4), pair(6), pair(8), pair(10), pair(12), pair(14)];
  return String.fromCharCode(...more, length, pair(0), pair(2), ...rest);
}

export function isAllPorts(ports: PortRange): boolean {
  return ports.min === ALL_PORTS.min && ports.max === ALL_PORTS.max;
}

/** The line of a bindings file that says this binding. */
export function formatBinding(binding: Binding): string {
  const words = [
    binding.label,
    binding.protocol,
    formatPrefix(binding.prefix),
    isAllPorts(binding.ports) ? 'all' : formatPortRange(binding.ports),
  ];
  if (binding.source !== undefined) words.push('from', formatPrefix(binding.source));
  if (binding.remotePort !== undefined) words.push('remote-port', String(binding.remotePort));
  if (binding.device !== undefined) words.push('in', binding.device);
  return words.join(' ');
}
