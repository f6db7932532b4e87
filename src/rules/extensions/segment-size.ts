/** The maximum segment size option of a SYN. Source: net/netfilter/xt_TCPMSS.c (tcpmss_mangle_packet); RFC 9293 §3.7.1. */
import { updateChecksum16 } from '../../wire/index.ts';
import type { EvaluationPacket } from '../evaluate/packet.ts';
import { withIpv4Word } from './header-change.ts';

const TCP_HEADER_BYTES = 20;
const TCP_CHECKSUM_AT = 16;
const OPTION_MSS = 2;
const OPTION_MSS_BYTES = 4;
/** What a sender that offers nothing takes for granted (RFC 9293 §3.7.1; RFC 8200 §5 less the headers). */
const DEFAULT_MSS = { ipv4: 536, ipv6: 1220 } as const;

function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/**
 * The packet with an option that offers no more than `mss`; the same bytes where it offers less already, or where the option
 * is missing and there is no room for it. `undefined`: its TCP header is malformed.
 */
export function withMaximumSegment(packet: EvaluationPacket, mss: number): Uint8Array | undefined {
  const { family, bytes, transportOffset: start, fragmentOffset } = packet;
  if (fragmentOffset !== 0) return bytes;
  const length = bytes.length - start;
  const headerLength = ((bytes[start + 12] ?? 0) >> 4) * 4;
  if (length < TCP_HEADER_BYTES || headerLength < TCP_HEADER_BYTES || headerLength > length) return undefined;
  const at = findOption(bytes, start, headerLength);
  if (at !== undefined) return read16(bytes, at + 2) <= mss ? bytes : withWord(bytes, start, at + 2, mss);
  if (length > headerLength || headerLength + OPTION_MSS_BYTES > 60) return bytes;
  const longer = insertOption(bytes, start, Math.min(mss, DEFAULT_MSS[family]));
  if (family === 'ipv4') return withIpv4Word(longer, 2, read16(bytes, 2) + OPTION_MSS_BYTES);
  new DataView(longer.buffer).setUint16(4, read16(bytes, 4) + OPTION_MSS_BYTES);
  return longer;
}

function findOption(bytes: Uint8Array, start: number, headerLength: number): number | undefined {
  const end = start + headerLength;
  for (let at = start + TCP_HEADER_BYTES; at <= end - OPTION_MSS_BYTES; ) {
    if (bytes[at] === OPTION_MSS && bytes[at + 1] === OPTION_MSS_BYTES) return at;
    // "No operation" and "end" are single bytes; a length of nothing is stepped over as one.
    at += bytes[at]! <= 1 || bytes[at + 1] === 0 ? 1 : bytes[at + 1]!;
  }
  return undefined;
}

/** A copy with one word of the TCP header changed, and its checksum. */
function withWord(bytes: Uint8Array, start: number, at: number, word: number): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const sum = adjusted(copy, start, at, word);
  view.setUint16(at, word);
  view.setUint16(start + TCP_CHECKSUM_AT, sum);
  return copy;
}

/** An option at an odd offset lies across two words of the sum: both halves count with their bytes swapped. */
function adjusted(bytes: Uint8Array, start: number, at: number, word: number): number {
  const sum = read16(bytes, start + TCP_CHECKSUM_AT);
  const before = read16(bytes, at);
  if (((at - start) & 1) === 0) return updateChecksum16(sum, before, word);
  const swap = (value: number): number => ((value & 0xff) << 8) | (value >> 8);
  return updateChecksum16(sum, swap(before), swap(word));
}

function insertOption(bytes: Uint8Array, start: number, mss: number): Uint8Array {
  const at = start + TCP_HEADER_BYTES;
  const longer = new Uint8Array(bytes.length + OPTION_MSS_BYTES);
  longer.set(bytes.subarray(0, at));
  longer.set(bytes.subarray(at), at + OPTION_MSS_BYTES);
  const view = new DataView(longer.buffer);
  const option = (OPTION_MSS << 8) | OPTION_MSS_BYTES;
  view.setUint16(at, option);
  view.setUint16(at + 2, mss);
  let sum = read16(bytes, start + TCP_CHECKSUM_AT);
  // The pseudo-header has the length of the segment.
  sum = updateChecksum16(sum, bytes.length - start, bytes.length - start + OPTION_MSS_BYTES);
  sum = updateChecksum16(sum, 0, option);
  sum = updateChecksum16(sum, 0, mss);
  const offsetWord = read16(bytes, start + 12);
  sum = updateChecksum16(sum, offsetWord, offsetWord + 0x1000);
  view.setUint16(start + 12, offsetWord + 0x1000);
  view.setUint16(start + TCP_CHECKSUM_AT, sum);
  return longer;
}
