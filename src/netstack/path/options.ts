/**
 * What a host writes into IPv4 options: its address into a route that is recorded, the time where it is asked for; and the
 * options that an answer takes over from what it answers.
 * Source: net/ipv4/ip_options.c (ip_options_compile, ip_forward_options, ip_options_echo, ip_options_build); RFC 781, RFC 791.
 */
import {
  IPOPT_END,
  type Ipv4Options,
  internetChecksum,
  readIpv4Options,
  TimestampForm,
} from '../../wire/index.ts';
import { ICMP_PARAMETERPROB, icmpErrorAbout } from '../icmp-error.ts';
import type { NetDevice, PacketOptions, SkBuff } from '../skb.ts';
import { RouteTypeNumber } from './fib.ts';
import type { NetworkStack } from './stack.ts';

const CHECKSUM_AT = 10;
const DAY_MS = 86_400_000;

/** Milliseconds since midnight, UTC (inet_current_timestamp). */
export function currentTimestamp(stack: NetworkStack): number {
  return Math.floor(stack.wallMs()) % DAY_MS;
}

/**
 * Reads the options of a routed packet and writes this host's share into them; the header checksum is left as it is, as the
 * kernel leaves it, until the packet is sent on. Tells the sender what is wrong with them.
 * @returns false: the packet is not accepted
 */
export function takeOptions(stack: NetworkStack, skb: SkBuff): boolean {
  const found = readIpv4Options(skb.data);
  skb.data = skb.data.slice();
  const { data } = skb;
  const changed = [padEnd(data, found), recordRoute(stack, skb, found), false];
  const timestamp = stamp(stack, skb, found);
  skb.options = {
    recordRoute: found.recordRoute,
    recordRouteNeedsAddress: changed[1]!,
    ...timestamp,
    timestamp: found.timestamp,
    changed: changed.includes(true) || timestamp.changed,
  };
  if (found.fault === undefined) return !found.sourceRoute;
  stack.net.sendIcmpError(icmpErrorAbout(skb, ICMP_PARAMETERPROB, 0, found.fault * 2 ** 24));
  return false;
}

/** What follows the end of the list becomes nothing. */
function padEnd(data: Uint8Array, { end }: Ipv4Options): boolean {
  const padding = data.subarray(end, (data[0]! & 15) * 4);
  const dirty = padding.some((byte) => byte !== IPOPT_END);
  if (dirty) padding.fill(IPOPT_END);
  return dirty;
}

function recordRoute(stack: NetworkStack, { data, dev }: SkBuff, { recordRoute: at }: Ipv4Options): boolean {
  if (at === 0 || data[at + 2]! > data[at + 1]!) return false;
  data.set(ownAddress(stack, data, dev), at + data[at + 2]! - 1);
  data[at + 2]! += 4;
  return true;
}

type Stamped = Pick<PacketOptions, 'timestampNeedsAddress' | 'timestampNeedsTime' | 'changed'>;

function stamp(stack: NetworkStack, { data, dev }: SkBuff, { timestamp: at }: Ipv4Options): Stamped {
  const nothing = { timestampNeedsAddress: false, timestampNeedsTime: false, changed: false };
  if (at === 0) return nothing;
  const pointer = data[at + 2]!;
  const form = data[at + 3]! & 0x0f;
  if (pointer > data[at + 1]!) {
    if (form === TimestampForm.PRESPECIFIED) return nothing;
    // No room is left: one host more that found none.
    data[at + 3]! += 0x10;
    return { ...nothing, changed: true };
  }
  const place = at + pointer - 1;
  const time = new DataView(data.buffer, data.byteOffset + place, data[at + 1]! - pointer + 1);
  const now = currentTimestamp(stack);
  if (form === TimestampForm.TIMES) {
    time.setUint32(0, now);
    data[at + 2] = pointer + 4;
    return { ...nothing, timestampNeedsTime: true, changed: true };
  }
  if (form === TimestampForm.ADDRESSES) data.set(ownAddress(stack, data, dev), place);
  else if (form !== TimestampForm.PRESPECIFIED) return nothing;
  else {
    const type = stack.fib('ipv4')!.addressType(data.subarray(place, place + 4));
    if (type === RouteTypeNumber.UNICAST) return nothing;
  }
  time.setUint32(4, now);
  data[at + 2] = pointer + 8;
  return {
    timestampNeedsAddress: form === TimestampForm.ADDRESSES,
    timestampNeedsTime: true,
    changed: true,
  };
}

/** The address that this host answers the packet from (fib_compute_spec_dst). */
export function ownAddress(stack: NetworkStack, data: Uint8Array, dev: NetDevice | undefined): Uint8Array {
  const fib = stack.fib('ipv4')!;
  const destination = data.subarray(16, 20);
  if (fib.addressType(destination) === RouteTypeNumber.LOCAL) return destination.slice();
  const source = data.subarray(12, 16);
  const back = source[0] === 0 ? undefined : fib.output(source);
  const device = back ?? dev?.name ?? '';
  return fib.sourceAddress(device, back === undefined ? source : fib.nextHop(source)) ?? new Uint8Array(4);
}

/** A packet that is handed on records the address of the device it leaves by (ip_forward_options). */
export function forwardOptions(stack: NetworkStack, skb: SkBuff): void {
  const { options, outDevice } = skb;
  if (options?.changed !== true || outDevice === undefined) return;
  skb.data = skb.data.slice();
  const { data } = skb;
  if (options.recordRouteNeedsAddress) {
    const at = options.recordRoute;
    const fib = stack.fib('ipv4')!;
    const address = fib.sourceAddress(outDevice.name, fib.nextHop(data.subarray(16, 20)));
    data.set(address ?? new Uint8Array(4), at + data[at + 2]! - 5);
  }
  writeChecksum(data);
  skb.options = { ...options, changed: false };
}

function writeChecksum(data: Uint8Array): void {
  const header = data.subarray(0, (data[0]! & 15) * 4);
  header.fill(0, CHECKSUM_AT, CHECKSUM_AT + 2);
  new DataView(header.buffer, header.byteOffset).setUint16(CHECKSUM_AT, internetChecksum(header));
}

/**
 * The options of an answer that is sent from `source`: those of the packet that record something, with this host's share once
 * more (ip_options_echo, ip_options_build). A multiple of four bytes; `undefined` when half a place is left, and so no answer.
 */
export function echoedOptions(
  stack: NetworkStack,
  packet: Uint8Array,
  options: PacketOptions | undefined,
  source: Uint8Array,
): Uint8Array | undefined {
  if (options === undefined) return new Uint8Array(0);
  const copyOf = (at: number): Uint8Array =>
    at === 0 ? new Uint8Array(0) : packet.slice(at, at + packet[at + 1]!);
  const [route, time] = [copyOf(options.recordRoute), copyOf(options.timestamp)];
  if (options.recordRouteNeedsAddress && !writeNext(route, source)) return undefined;
  if (time.length > 0 && time[2]! <= time.length && !stampEcho(stack, time, options, source))
    return undefined;
  const length = route.length + time.length;
  const whole = new Uint8Array((length + 3) & ~3);
  whole.set(route);
  whole.set(time, route.length);
  return whole;
}

/** Writes four bytes where the pointer stands and moves it on; false where only a part of them has room. */
function writeNext(option: Uint8Array, bytes: Uint8Array): boolean {
  const pointer = option[2]!;
  if (pointer > option.length) return true;
  if (pointer + 3 > option.length) return false;
  option.set(bytes, pointer - 1);
  option[2] = pointer + 4;
  return true;
}

function stampEcho(
  stack: NetworkStack,
  time: Uint8Array,
  { timestampNeedsAddress, timestampNeedsTime }: PacketOptions,
  source: Uint8Array,
): boolean {
  const now = new Uint8Array(4);
  new DataView(now.buffer).setUint32(0, currentTimestamp(stack));
  if (timestampNeedsAddress && !writeNext(time, source)) return false;
  if (!timestampNeedsTime) return true;
  const pointer = time[2]!;
  if (pointer + 3 > time.length) return false;
  if ((time[3]! & 0x0f) !== TimestampForm.PRESPECIFIED) return writeNext(time, now);
  if (pointer + 7 > time.length) return true;
  const named = time.subarray(pointer - 1, pointer + 3);
  if (stack.fib('ipv4')!.addressType(named) === RouteTypeNumber.UNICAST) return true;
  time[2] = pointer + 4;
  return writeNext(time, now);
}
