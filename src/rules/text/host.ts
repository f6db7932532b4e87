/**
 * Addresses and masks of extension options (libxtables/xtoptions.c: XTTYPE_HOST, XTTYPE_PLEN, XTTYPE_PLENMASK,
 * XTTYPE_HOSTMASK). They go through getaddrinfo(3), so IPv4 has the forms of inet_aton(3): "10.1" is 10.0.0.1 here,
 * unlike in `-s` and `-d`.
 */
import {
  addressLength,
  type Family,
  formatAddressBytes,
  lengthOfMask,
  maskOfLength,
  parseAddress,
} from '../../net/index.ts';
import { OptionError } from '../extension.ts';
import { addressError } from './address.ts';
import { parseUnsigned, splitNumber } from './number.ts';

function parseInetAton(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length > 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    const number = /^[0-9]/.test(part) ? splitNumber(part) : undefined;
    const last = index === parts.length - 1;
    const width = last ? 4 - index : 1;
    if (number === undefined || number.rest !== '' || number.value >= 1n << BigInt(8 * width))
      return undefined;
    for (let byte = 0; byte < width; byte++)
      bytes[index + byte] = Number((number.value >> BigInt(8 * (width - 1 - byte))) & 0xffn);
  }
  return bytes;
}

function parseNumericHost(text: string, family: Family): Uint8Array | undefined {
  if (family === 'ipv4') return parseInetAton(text);
  const address = parseAddress(text);
  return address?.family === 'ipv6' ? address.bytes : undefined;
}

/** One address without a mask. @throws {OptionError} */
export function parseHostAddress(text: string, family: Family): Uint8Array {
  const bytes = parseNumericHost(text, family);
  if (bytes === undefined) throw addressError(text, family);
  return bytes;
}

/** A number of bits, or a mask in address form: -1 when that is not contiguous. @throws {OptionError} */
export function parsePrefixLength(text: string, family: Family): number {
  const most = addressLength(family) * 8;
  const bits = parseUnsigned(text, 0, most);
  if (bits !== undefined) return bits;
  const mask = parseNumericHost(text, family);
  if (mask === undefined)
    throw new OptionError(`"${text}" is neither a mask nor a prefix length from 0 to ${most}`);
  return lengthOfMask(mask) ?? -1;
}

/** As {@link parsePrefixLength}, as a mask. A mask that is not contiguous counts as all bits, as in iptables. @throws {OptionError} */
export function parsePrefixMask(text: string, family: Family): Uint8Array {
  const bits = parsePrefixLength(text, family);
  return maskOfLength(family, bits < 0 ? addressLength(family) * 8 : bits);
}

/** An address as written, with its mask. */
export interface HostMask {
  readonly address: Uint8Array;
  readonly mask: Uint8Array;
}

/** `address[/mask]`; the address keeps its host bits. @throws {OptionError} */
export function parseHostMask(text: string, family: Family): HostMask {
  const slash = text.indexOf('/');
  if (slash < 0)
    return { address: parseHostAddress(text, family), mask: maskOfLength(family, addressLength(family) * 8) };
  return {
    address: parseHostAddress(text.slice(0, slash), family),
    mask: parsePrefixMask(text.slice(slash + 1), family),
  };
}

/** "address", with "/bits" where not all bits count, or "/mask" where they are not contiguous (xtables_ipmask_to_numeric). */
export function formatHostMask({ address, mask }: HostMask): string {
  const bits = lengthOfMask(mask);
  if (bits === mask.length * 8) return formatAddressBytes(address);
  return `${formatAddressBytes(address)}/${bits ?? formatAddressBytes(mask)}`;
}
