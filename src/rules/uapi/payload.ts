/**
 * The binary form of a match or target: the bytes behind struct xt_entry_match and struct xt_entry_target
 * (uapi/linux/netfilter/xt_*.h, ipt_*.h, ip6t_*.h). Numbers are in host order, which is little endian on all machines
 * these tables are exchanged on (x86_64, aarch64); addresses are in network order.
 */
import type { Family } from '../../net/index.ts';
import type { MaskedMark } from '../text/mark.ts';
import { utf8Bytes } from '../text/utf8.ts';
import { refuse, unwritten } from './errno.ts';

/** Numbers that stand for the names of IP sets in entries, as SO_IP_SET answers for them (ip_set_sockfn_get). */
export interface SetNumbers {
  /** `undefined`: there is no such set. */
  numberOf(name: string): number | undefined;
  nameOf(number: number): string | undefined;
}

/** The rule around the payload. */
export interface PayloadContext {
  readonly family: Family;
  /** Absent: there are no sets. */
  readonly sets?: SetNumbers | undefined;
}

/** One revision of an extension as the kernel registers it (struct xt_match, struct xt_target). */
export interface AbiForm<S> {
  /** Name in the entry; several extensions may share it, and tell their payloads apart. */
  readonly name: string;
  readonly revision: number;
  /** Registered once for all families (NFPROTO_UNSPEC). Another revision is then EPROTOTYPE instead of ENOENT. */
  readonly everyFamily?: boolean;
  /** Absent: every family of the extension. */
  readonly families?: readonly Family[];
  /** Bytes of the kernel's structure, before alignment to 8. */
  readonly size: number;
  /** Bytes that user space gets back, when not all: the rest reads as zero (struct xt_match.usersize). */
  readonly userSize?: number;
  /**
   * The state that the bytes stand for; `undefined` when they are another extension's of the same name.
   * @throws {AbiError} what checkentry refuses, and EINVAL for what no iptables writes and the model cannot hold
   */
  decode(view: DataView, context: PayloadContext): S | undefined;
  /** Writes the state over zeroes. */
  encode(state: S, view: DataView, context: PayloadContext): void;
}

/** Text up to its terminator, which has to be there. @throws {UnwrittenError} */
export function readText(view: DataView, offset: number, length: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, length);
  const end = bytes.indexOf(0);
  if (end < 0) unwritten('a text is not terminated');
  return decodeUtf8(bytes.subarray(0, end));
}

/** Writes text over zeroes, cut so that a terminator remains. */
export function writeText(view: DataView, offset: number, length: number, text: string): void {
  writeBytes(view, offset, utf8Bytes(text).subarray(0, length - 1));
}

export function readBytes(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
}

export function writeBytes(view: DataView, offset: number, bytes: Uint8Array): void {
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(bytes, offset);
}

/** An address of the family in a union nf_inet_addr. */
export function readAddress(view: DataView, offset: number, family: Family): Uint8Array {
  return readBytes(view, offset, family === 'ipv4' ? 4 : 16);
}

/** A value and a mask of 32 bits each. */
export function readMaskedMark(view: DataView, offset: number): MaskedMark {
  return { value: view.getUint32(offset, true), mask: view.getUint32(offset + 4, true) };
}

export function writeMaskedMark(view: DataView, offset: number, { value, mask }: MaskedMark): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, mask, true);
}

/** A byte of flags of which only `known` are possible. @throws {AbiError} */
export function readFlags(view: DataView, offset: number, known: number, what: string): number {
  const flags = view.getUint8(offset);
  if ((flags & ~known) !== 0) refuse(`${what} has unknown flags 0x${flags.toString(16)}`);
  return flags;
}

/** A byte or int that says yes or no: user space writes 1, the kernel takes any number. */
export function readBoolean(view: DataView, offset: number): boolean {
  return view.getUint8(offset) !== 0;
}

/** RFC 3629, with U+FFFD for what is not UTF-8. */
function decodeUtf8(bytes: Uint8Array): string {
  let text = '';
  for (let index = 0; index < bytes.length; ) {
    const first = bytes[index]!;
    const more = first < 0x80 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc2 ? 1 : -1;
    let point = more === 0 ? first : first & (0x3f >> more);
    let read = 1;
    while (read <= more && (bytes[index + read]! & 0xc0) === 0x80)
      point = (point << 6) | (bytes[index + read++]! & 0x3f);
    const whole = more >= 0 && read === more + 1 && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    text += whole ? String.fromCodePoint(point) : '\ufffd';
    index += whole ? read : 1;
  }
  return text;
}
