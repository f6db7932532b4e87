/**
 * Addresses and masks as iptables reads and saves them (libxtables/xtables.c: xtables_ipparse_multiple,
 * xtables_ip6parse_multiple, parse_ipmask; iptables/xshared.c: save_ipv4_addr, save_ipv6_addr).
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
import { parseUnsigned } from './number.ts';

/** Masks by prefix length; shared by all rules that have them. */
const masks: Record<Family, (Uint8Array | undefined)[]> = { ipv4: [], ipv6: [] };

function prefixMask(family: Family, bits: number): Uint8Array {
  const known = masks[family][bits];
  if (known !== undefined) return known;
  const mask = maskOfLength(family, bits);
  masks[family][bits] = mask;
  return mask;
}

/** Four decimal bytes, the usual form; `undefined` also for the less usual ones. */
function parseDottedQuad(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let index = 0;
  let digits = 0;
  let value = 0;
  for (let position = 0; position <= text.length; position++) {
    const code = position === text.length ? DOT : text.charCodeAt(position);
    if (code === DOT) {
      if (digits === 0 || index === 4) return undefined;
      bytes[index++] = value;
      digits = 0;
      value = 0;
      continue;
    }
    // A leading zero would mean octal.
    if (code < ZERO || code > ZERO + 9 || (digits > 0 && value === 0)) return undefined;
    value = value * 10 + code - ZERO;
    digits++;
    if (value > 255) return undefined;
  }
  return index === 4 ? bytes : undefined;
}

const DOT = 46;
const ZERO = 48;

function parseIpv4Number(text: string, complete: boolean): Uint8Array | undefined {
  const usual = parseDottedQuad(text);
  if (usual !== undefined) return usual;
  const parts = text.split('.');
  if (parts.length > 4 || (complete && parts.length !== 4)) return undefined;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    const value = parseUnsigned(part, 0, 255);
    if (value === undefined) return undefined;
    bytes[index] = value;
  }
  return bytes;
}

/**
 * A numeric address. IPv4 as xtables_numeric_to_ipaddr has it: octal and hexadecimal bytes, and fewer than four
 * of them ("10.1" is 10.1.0.0). IPv6 as inet_pton.
 */
export function parseHost(text: string, family: Family): Uint8Array | undefined {
  if (family === 'ipv4') return parseIpv4Number(text, false);
  const address = parseAddress(text);
  return address?.family === 'ipv6' ? address.bytes : undefined;
}

/** The mask after "/": a number of bits, or a mask in address form. */
export function parseMask(text: string, family: Family): Uint8Array | undefined {
  const length = addressLength(family);
  const written =
    family === 'ipv4'
      ? parseIpv4Number(text, true)
      : text.includes(':')
        ? parseHost(text, family)
        : undefined;
  if (written !== undefined) return written;
  const bits = parseUnsigned(text, 0, length * 8);
  return bits === undefined ? undefined : prefixMask(family, bits);
}

/** The reason why a word is not an address of the family, with what to do instead. */
export function addressError(text: string, family: Family): OptionError {
  const other: Family = family === 'ipv4' ? 'ipv6' : 'ipv4';
  const named = family === 'ipv4' ? 'IPv4' : 'IPv6';
  if (parseAddress(text)?.family === other)
    return new OptionError(`${text} is not an ${named} address`, {
      hint: `this is a rule for ${other === 'ipv4' ? 'iptables (-4)' : 'ip6tables (-6)'}`,
    });
  if (/^[0-9.]+$/.test(text) || text.includes(':'))
    return new OptionError(`"${text}" is not an ${named} address`);
  return new OptionError(`host name "${text}" is not resolved`, {
    hint: `write the address itself: a policy that depends on DNS answers is not repeatable`,
  });
}

/** `address[/mask]` with the address masked. @throws {OptionError} */
export function parseMaskedAddress(
  text: string,
  family: Family,
): { readonly address: Uint8Array; readonly mask: Uint8Array } {
  const length = addressLength(family);
  const slash = text.lastIndexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const mask = slash < 0 ? prefixMask(family, length * 8) : parseMask(text.slice(slash + 1), family);
  if (mask === undefined)
    throw new OptionError(`"${text.slice(slash + 1)}" is not a mask`, {
      hint: `a prefix length from 0 to ${length * 8}, or a mask such as ${family === 'ipv4' ? '255.255.0.0' : 'ffff:ffff::'}`,
    });
  // Under an empty mask the name does not matter ("any/0").
  if (mask[0] === 0 && mask.every((byte) => byte === 0)) return { address: new Uint8Array(length), mask };
  const address = parseHost(host, family);
  if (address === undefined) throw addressError(host, family);
  for (let index = 0; index < length; index++) address[index]! &= mask[index]!;
  return { address, mask };
}

/** `address[/mask][,…]`: each as {@link parseMaskedAddress}. @throws {OptionError} */
export function parseMaskedAddresses(
  text: string,
  family: Family,
): { readonly address: Uint8Array; readonly mask: Uint8Array }[] {
  if (!text.includes(',')) return [parseMaskedAddress(text, family)];
  return text.split(',').map((part) => parseMaskedAddress(part.replace(/^[ \t]+/, ''), family));
}

/** "address/bits", or "address/mask" where the mask is not contiguous. */
export function formatMaskedAddress(address: Uint8Array, mask: Uint8Array): string {
  const bits = lengthOfMask(mask);
  return `${formatAddressBytes(address)}/${bits ?? formatAddressBytes(mask)}`;
}
