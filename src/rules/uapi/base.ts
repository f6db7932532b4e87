/** The conditions of struct ipt_ip and ip6t_ip6 (ip_packet_match, ip6_packet_match; written as iptables 1.8.9 does). */
import type { BaseMatch, DeviceName, MaskedAddress } from '../model.ts';
import { byteLength } from '../text/utf8.ts';
import { unwritten } from './errno.ts';
import { type EntryLayout, FLAG_FRAGMENT, FLAG_PROTOCOL, Invert } from './layout.ts';
import { readBytes, readText, writeBytes, writeText } from './payload.ts';

const DEVICE_BYTES = 16;

/** A byte of ip6t_ip6 that iptables never writes and the kernel never reads. */
const TOS_BEFORE_FLAGS = 1;

/** Reads the conditions at the beginning of `entry`. @throws {UnwrittenError} for what no iptables writes */
export function decodeBase(entry: DataView, layout: EntryLayout): BaseMatch {
  const base: BaseMatch = {};
  const flags = entry.getUint8(layout.flags);
  const invert = entry.getUint8(layout.invertFlags);
  const negated = (bit: number): boolean => (invert & bit) !== 0;
  const { addressBytes, family } = layout;
  const address = (at: number, maskAt: number, bit: number): MaskedAddress | undefined => {
    const found = {
      address: readBytes(entry, at, addressBytes),
      mask: readBytes(entry, maskAt, addressBytes),
      negate: negated(bit),
    };
    const any = [...found.address, ...found.mask].every((byte) => byte === 0);
    return any && !found.negate ? undefined : found;
  };
  const source = address(layout.source, layout.sourceMask, Invert.SOURCE);
  const destination = address(layout.destination, layout.destinationMask, Invert.DESTINATION);
  if (source !== undefined) base.source = source;
  if (destination !== undefined) base.destination = destination;
  const inDevice = decodeDevice(entry, layout.inDevice, layout.inDeviceMask, negated(Invert.IN_DEVICE));
  const outDevice = decodeDevice(entry, layout.outDevice, layout.outDeviceMask, negated(Invert.OUT_DEVICE));
  if (inDevice !== undefined) base.inDevice = inDevice;
  if (outDevice !== undefined) base.outDevice = outDevice;
  const number = entry.getUint16(layout.protocol, true);
  if (number > 0xff && family === 'ipv4') unwritten(`there is no IP protocol ${number}`);
  // ip6tables writes "-p all" as protocol 0 that is looked for: packets whose headers are broken do not match.
  const looked = family === 'ipv6' && (flags & FLAG_PROTOCOL) !== 0;
  if (number !== 0 || looked) base.protocol = { number, negate: negated(Invert.PROTOCOL) };
  if (family === 'ipv4') {
    if ((flags & FLAG_FRAGMENT) !== 0) base.fragment = { negate: negated(Invert.FRAGMENT) };
  } else {
    if (number === 0 ? looked && negated(Invert.PROTOCOL) : !looked)
      unwritten('the protocol and its flag do not go together');
    if (
      entry.getUint8(layout.flags - TOS_BEFORE_FLAGS) !== 0 ||
      (flags & ~(FLAG_PROTOCOL | layout.gotoFlag)) !== 0
    )
      unwritten('the kernel has no condition on the traffic class here');
  }
  return base;
}

/** A device's name under its mask, which are 16 bytes each; `undefined` when any fits. @throws {UnwrittenError} */
export function decodeDevice(
  entry: DataView,
  at: number,
  maskAt: number,
  negate: boolean,
): DeviceName | undefined {
  const mask = readBytes(entry, maskAt, DEVICE_BYTES);
  const compared = mask.indexOf(0);
  const length = compared < 0 ? DEVICE_BYTES : compared;
  if (mask.some((byte, index) => byte !== (index < length ? 0xff : 0)))
    unwritten('the mask of a device name is not contiguous');
  const text = readText(entry, at, DEVICE_BYTES);
  if (length === 0) {
    if (text === '' && !negate) return undefined;
    return { name: '', wildcard: true, negate };
  }
  const bytes = byteLength(text);
  // An exact name is compared with its terminator; a wildcard keeps its "+" out of the comparison.
  if (length === bytes + 1) return { name: text, wildcard: false, negate };
  if (length === bytes - 1 && text.endsWith('+')) return { name: text.slice(0, -1), wildcard: true, negate };
  return unwritten(`the mask of device name "${text}" does not fit it`);
}

/** Writes a device's name and its mask over zeroes. */
export function encodeDevice(entry: DataView, at: number, maskAt: number, one: DeviceName | undefined): void {
  if (one === undefined) return;
  writeText(entry, at, DEVICE_BYTES, one.wildcard ? `${one.name}+` : one.name);
  const compared = byteLength(one.name) + (one.wildcard ? 0 : 1);
  writeBytes(entry, maskAt, new Uint8Array(compared).fill(0xff));
}

/** Writes the conditions over zeroes. */
export function encodeBase(base: BaseMatch, entry: DataView, layout: EntryLayout): void {
  let flags = 0;
  let invert = 0;
  const set = (bit: number, negate: boolean): void => {
    if (negate) invert |= bit;
  };
  const address = (one: MaskedAddress | undefined, at: number, maskAt: number, bit: number): void => {
    if (one === undefined) return;
    writeBytes(entry, at, one.address);
    writeBytes(entry, maskAt, one.mask);
    set(bit, one.negate);
  };
  address(base.source, layout.source, layout.sourceMask, Invert.SOURCE);
  address(base.destination, layout.destination, layout.destinationMask, Invert.DESTINATION);
  const device = (one: DeviceName | undefined, at: number, maskAt: number, bit: number): void => {
    encodeDevice(entry, at, maskAt, one);
    set(bit, one?.negate === true);
  };
  device(base.inDevice, layout.inDevice, layout.inDeviceMask, Invert.IN_DEVICE);
  device(base.outDevice, layout.outDevice, layout.outDeviceMask, Invert.OUT_DEVICE);
  if (base.protocol !== undefined) {
    entry.setUint16(layout.protocol, base.protocol.number, true);
    set(Invert.PROTOCOL, base.protocol.negate);
    if (layout.family === 'ipv6') flags |= FLAG_PROTOCOL;
  }
  if (base.fragment !== undefined) {
    flags |= FLAG_FRAGMENT;
    set(Invert.FRAGMENT, base.fragment.negate);
  }
  entry.setUint8(layout.flags, flags);
  entry.setUint8(layout.invertFlags, invert);
}
