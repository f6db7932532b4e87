/**
 * What can be wrong with a header, and the error of an emitter that was asked for an impossible one.
 */

/**
 * - `truncated` the bytes end before the header does
 * - `version` not the protocol version that the place calls for
 * - `header-length` the length field of the header is below its minimum, or not a multiple it must be
 * - `total-length` the length field of the packet is below the header's length
 * - `packet-truncated` the header is whole, the packet ends before its length field says
 */
export type WireProblem = 'truncated' | 'version' | 'header-length' | 'total-length' | 'packet-truncated';

/** Thrown by emitters for values that no header can hold. */
export class WireError extends Error {
  readonly code = 'WIRE_VALUE';
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.name = 'WireError';
    this.hint = hint;
  }
}

/** Throws {@link WireError} unless `value` is an integer of at most `bits` bits. */
export function requireBits(name: string, value: number, bits: number): void {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return;
  throw new WireError(`${name} cannot be ${value}`, `give an integer from 0 to ${2 ** bits - 1}`);
}

/** Throws {@link WireError} unless `bytes` has exactly `length` bytes. */
export function requireLength(name: string, bytes: Uint8Array, length: number): void {
  if (bytes.length === length) return;
  throw new WireError(`${name} has ${bytes.length} bytes`, `give exactly ${length} bytes`);
}
