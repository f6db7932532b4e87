/**
 * What the stack drops before any rule sees it, and on the way from PRE_ROUTING to the next hook: ip_rcv_core,
 * ip_rcv_options (net/ipv4/ip_input.c, ip_options.c), ip6_rcv_core, ipv6_parse_hopopts (net/ipv6/ip6_input.c, exthdrs.c).
 */
import type { Family } from '../../net/index.ts';

export type ReceiveFault =
  | 'not-for-us'
  | 'bad-header'
  | 'bad-header-checksum'
  | 'truncated'
  | 'bad-address'
  | 'bad-options';

export interface ReceiveInput {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly inDevice: string;
  readonly packetType: number;
}

const PACKET_OTHERHOST = 3;
const LOOPBACK_DEVICE = 'lo';

/** The packet as PRE_ROUTING gets it, trimmed to its IP length, or why it never gets there. */
export function receive(input: ReceiveInput): Uint8Array | ReceiveFault {
  if (input.packetType === PACKET_OTHERHOST) return 'not-for-us';
  return input.family === 'ipv4' ? receiveIpv4(input.bytes) : receiveIpv6(input.bytes, input.inDevice);
}

function receiveIpv4(bytes: Uint8Array): Uint8Array | ReceiveFault {
  if (bytes.length < 20) return 'truncated';
  const headerLength = (bytes[0]! & 0x0f) * 4;
  if (bytes[0]! >> 4 !== 4 || headerLength < 20) return 'bad-header';
  if (bytes.length < headerLength) return 'truncated';
  if (!headerSumIsRight(bytes, headerLength)) return 'bad-header-checksum';
  const total = (bytes[2]! << 8) | bytes[3]!;
  if (bytes.length < total) return 'truncated';
  if (total < headerLength) return 'bad-header';
  return bytes.subarray(0, total);
}

function headerSumIsRight(bytes: Uint8Array, length: number): boolean {
  let sum = 0;
  for (let at = 0; at < length; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum === 0xffff;
}

function receiveIpv6(bytes: Uint8Array, inDevice: string): Uint8Array | ReceiveFault {
  if (bytes.length < 40) return 'truncated';
  if (bytes[0]! >> 4 !== 6) return 'bad-header';
  const source = bytes.subarray(8, 24);
  const destination = bytes.subarray(24, 40);
  const loopback = isLoopback(source) || isLoopback(destination);
  if (loopback && inDevice !== LOOPBACK_DEVICE) return 'bad-address';
  const scope = destination[0] === 0xff ? destination[1]! & 0x0f : undefined;
  // RFC 4291 2.7: scope 0 is reserved, scope 1 never leaves an interface.
  if (scope === 0 || (scope === 1 && inDevice !== LOOPBACK_DEVICE)) return 'bad-address';
  if (source[0] === 0xff) return 'bad-address';
  const payload = (bytes[4]! << 8) | bytes[5]!;
  // A jumbogram has no length here; the option that would hold it is checked with the other options.
  const jumbo = payload === 0 && bytes[6] === 0;
  if (!jumbo && payload + 40 > bytes.length) return 'truncated';
  const packet = jumbo ? bytes : bytes.subarray(0, payload + 40);
  return bytes[6] === 0 && !hopByHopIsSound(packet) ? 'bad-options' : packet;
}

function isLoopback(address: Uint8Array): boolean {
  return address.every((byte, index) => byte === (index === 15 ? 1 : 0));
}

/** Options of any one header beyond this many are an attack (max_hbh_opts_number). */
const MAXIMUM_OPTIONS = 8;

function hopByHopIsSound(bytes: Uint8Array): boolean {
  if (bytes.length < 48) return false;
  const end = 40 + (bytes[41]! + 1) * 8;
  if (bytes.length < end) return false;
  let at = 42;
  let options = 0;
  let padding = 0;
  while (at < end) {
    const kind = bytes[at]!;
    if (kind === 0) {
      if (++padding > 7) return false;
      at++;
      continue;
    }
    if (at + 2 > end) return false;
    const length = bytes[at + 1]! + 2;
    if (at + length > end) return false;
    if (kind === 1) {
      padding += length;
      if (padding > 7 || bytes.subarray(at + 2, at + length).some((byte) => byte !== 0)) return false;
    } else {
      if (++options > MAXIMUM_OPTIONS) return false;
      if (!hopOptionIsAccepted(bytes, at, length)) return false;
      padding = 0;
    }
    at += length;
  }
  return true;
}

function hopOptionIsAccepted(bytes: Uint8Array, at: number, length: number): boolean {
  const kind = bytes[at]!;
  if (kind === 5) return length === 4;
  if (kind === 0xc2) return jumboIsSound(bytes, at, length);
  // RFC 8200 4.2: the two highest bits say what to do with an unknown option; only 00 is "skip".
  return kind >> 6 === 0;
}

function jumboIsSound(bytes: Uint8Array, at: number, length: number): boolean {
  if (length !== 6 || (at & 3) !== 2) return false;
  const size = new DataView(bytes.buffer, bytes.byteOffset + at + 2, 4).getUint32(0);
  return size > 0xffff && bytes[4] === 0 && bytes[5] === 0 && size + 40 <= bytes.length;
}
