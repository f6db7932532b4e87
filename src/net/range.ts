/** Inclusive address ranges, `192.0.2.10-192.0.2.20`, and the prefixes that make them up. */
import { type Address, addressLength, compareAddressBytes, formatAddress, parseAddress } from './address.ts';
import { maskOfLength } from './mask.ts';
import type { Prefix } from './prefix.ts';

/** From `min` to `max`, both included, compared in network order; of one family, `min <= max`. */
export interface AddressRange {
  readonly min: Address;
  readonly max: Address;
}

/** Parses `min-max` or a single address; `undefined` when it is neither, mixes families or runs backwards. */
export function parseAddressRange(text: string): AddressRange | undefined {
  const dash = text.indexOf('-');
  const min = parseAddress(dash < 0 ? text : text.slice(0, dash));
  const max = dash < 0 ? min : parseAddress(text.slice(dash + 1));
  if (min === undefined || max === undefined || min.family !== max.family) return undefined;
  return compareAddressBytes(min.bytes, max.bytes) <= 0 ? { min, max } : undefined;
}

/** Prints `min-max`, also where both are the same address. */
export function formatAddressRange(range: AddressRange): string {
  return `${formatAddress(range.min)}-${formatAddress(range.max)}`;
}

/** True when the address lies in the range. Another family never does. */
export function rangeContains(range: AddressRange, address: Address): boolean {
  return (
    range.min.bytes.length === address.bytes.length &&
    compareAddressBytes(range.min.bytes, address.bytes) <= 0 &&
    compareAddressBytes(address.bytes, range.max.bytes) <= 0
  );
}

/** First and last address of a prefix. */
export function rangeOfPrefix(prefix: Prefix): AddressRange {
  const { family, bytes } = prefix.address;
  const mask = maskOfLength(family, prefix.length);
  return {
    min: { family, bytes: bytes.map((byte, index) => byte & mask[index]!) },
    max: { family, bytes: bytes.map((byte, index) => byte | (~mask[index]! & 0xff)) },
  };
}

/** The fewest prefixes that hold exactly the range's addresses, in ascending order. */
export function prefixesOfRange(range: AddressRange): Prefix[] {
  const { family } = range.min;
  const bits = addressLength(family) * 8;
  const last = toInteger(range.max.bytes);
  const prefixes: Prefix[] = [];
  let next = toInteger(range.min.bytes);
  while (next <= last) {
    // The largest block that starts here is bounded by the alignment of its start and by the end of the range.
    let free = 0;
    while (free < bits && ((next >> BigInt(free)) & 1n) === 0n && next + (2n << BigInt(free)) - 1n <= last)
      free++;
    prefixes.push({ address: { family, bytes: fromInteger(next, bits / 8) }, length: bits - free });
    next += 1n << BigInt(free);
  }
  return prefixes;
}

function toInteger(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

function fromInteger(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = length - 1, rest = value; index >= 0; index--, rest >>= 8n)
    bytes[index] = Number(rest & 0xffn);
  return bytes;
}
