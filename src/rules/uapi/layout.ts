/**
 * Places in the structures that user space and the kernel exchange a table in: uapi/linux/netfilter/x_tables.h,
 * uapi/linux/netfilter_ipv4/ip_tables.h, uapi/linux/netfilter_ipv6/ip6_tables.h, for machines of 64 bits.
 */
import type { Family } from '../../net/index.ts';

/** Byte offsets in struct ipt_entry or struct ip6t_entry; its struct ipt_ip or ip6t_ip6 begins at 0. */
export interface EntryLayout {
  readonly family: Family;
  readonly addressBytes: number;
  readonly source: number;
  readonly destination: number;
  readonly sourceMask: number;
  readonly destinationMask: number;
  readonly inDevice: number;
  readonly outDevice: number;
  readonly inDeviceMask: number;
  readonly outDeviceMask: number;
  readonly protocol: number;
  readonly flags: number;
  readonly invertFlags: number;
  /** sizeof(struct ipt_ip): all zero in a rule without conditions. */
  readonly ipBytes: number;
  readonly targetOffset: number;
  readonly nextOffset: number;
  readonly comefrom: number;
  readonly counters: number;
  /** sizeof(struct ipt_entry): where matches begin. */
  readonly bytes: number;
  readonly gotoFlag: number;
  readonly knownFlags: number;
}

export const ENTRY_LAYOUTS: Readonly<Record<Family, EntryLayout>> = {
  ipv4: {
    family: 'ipv4',
    addressBytes: 4,
    source: 0,
    destination: 4,
    sourceMask: 8,
    destinationMask: 12,
    inDevice: 16,
    outDevice: 32,
    inDeviceMask: 48,
    outDeviceMask: 64,
    protocol: 80,
    flags: 82,
    invertFlags: 83,
    ipBytes: 84,
    targetOffset: 88,
    nextOffset: 90,
    comefrom: 92,
    counters: 96,
    bytes: 112,
    gotoFlag: 0x2,
    knownFlags: 0x3,
  },
  ipv6: {
    family: 'ipv6',
    addressBytes: 16,
    source: 0,
    destination: 16,
    sourceMask: 32,
    destinationMask: 48,
    inDevice: 64,
    outDevice: 80,
    inDeviceMask: 96,
    outDeviceMask: 112,
    protocol: 128,
    flags: 131,
    invertFlags: 132,
    ipBytes: 136,
    targetOffset: 140,
    nextOffset: 142,
    comefrom: 144,
    counters: 152,
    bytes: 168,
    gotoFlag: 0x4,
    knownFlags: 0x7,
  },
};

/** IPT_F_FRAG. */
export const FLAG_FRAGMENT = 0x1;
/** IP6T_F_PROTO: without it ip6_tables does not look at the protocol. */
export const FLAG_PROTOCOL = 0x1;

/** IPT_INV_* and IP6T_INV_*, which are the same. */
export const Invert = {
  IN_DEVICE: 0x01,
  OUT_DEVICE: 0x02,
  SOURCE: 0x08,
  DESTINATION: 0x10,
  FRAGMENT: 0x20,
  PROTOCOL: 0x40,
  ALL: 0x7f,
} as const;

/** struct xt_entry_match and struct xt_entry_target. */
export const ExtensionHeader = { SIZE: 0, NAME: 2, REVISION: 31, BYTES: 32 } as const;
/** XT_EXTENSION_MAXNAMELEN, XT_FUNCTION_MAXNAMELEN, XT_TABLE_MAXNAMELEN. */
export const EXTENSION_NAME_BYTES = 29;
export const CHAIN_NAME_BYTES = 30;
export const TABLE_NAME_BYTES = 32;
/** struct xt_standard_target, struct xt_error_target. */
export const STANDARD_TARGET_BYTES = 40;
export const ERROR_TARGET_BYTES = 64;
export const STANDARD_TARGET = '';
export const ERROR_TARGET = 'ERROR';

/** Verdicts of a standard target; positive ones are jumps to that byte offset. */
export const Verdict = { DROP: -1, ACCEPT: -2, QUEUE: -4, RETURN: -5 } as const;

/** NF_INET_NUMHOOKS. */
export const HOOK_COUNT = 5;
/** What an unused place in hook_entry and underflow reads. */
export const NO_HOOK = 0xffff_ffff;
/** struct xt_counters. */
export const COUNTER_BYTES = 16;

/** XT_ALIGN. */
export function align8(length: number): number {
  return (length + 7) & ~7;
}

/** Text of a fixed field up to its terminator, byte for byte; the whole field when there is none. */
export function fieldText(bytes: Uint8Array, offset: number, length: number): string {
  let text = '';
  for (let index = offset; index < offset + length && bytes[index] !== 0; index++)
    text += String.fromCharCode(bytes[index]!);
  return text;
}

/** Writes one byte for each code unit, as {@link fieldText} reads them. */
export function putFieldText(bytes: Uint8Array, offset: number, text: string): void {
  for (let index = 0; index < text.length; index++) bytes[offset + index] = text.charCodeAt(index);
}
