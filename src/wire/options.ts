/**
 * Walks over option lists: IPv4 and TCP options (kind, length, data; kinds 0 and 1 have no length), and the TLVs of
 * IPv6 hop-by-hop and destination options (type, length of data only; type 0 is a single byte).
 * RFC 791 §3.1, RFC 9293 §3.2, RFC 8200 §4.2.
 */

/** One option; `data` is a view over the packet. */
export interface Option {
  readonly kind: number;
  /** Where its first byte stands in the bytes walked. */
  readonly offset: number;
  readonly data: Uint8Array;
}

/** The options met, and whether the list was well formed to its end. */
export interface OptionList {
  readonly options: readonly Option[];
  readonly wellFormed: boolean;
}

/** IPv4 and TCP options in `bytes[start, end)`; stops at the end-of-list option and at the first malformed one. */
export function walkOptions(bytes: Uint8Array, start: number, end: number): OptionList {
  const options: Option[] = [];
  const limit = Math.min(end, bytes.length);
  for (let at = start; at < limit; ) {
    const kind = bytes[at]!;
    if (kind === 0) break;
    if (kind === 1) {
      options.push({ kind, offset: at, data: bytes.subarray(at + 1, at + 1) });
      at++;
      continue;
    }
    const length = at + 1 < limit ? bytes[at + 1]! : 0;
    if (length < 2 || at + length > limit) return { options, wellFormed: false };
    options.push({ kind, offset: at, data: bytes.subarray(at + 2, at + length) });
    at += length;
  }
  return { options, wellFormed: true };
}

/** TLVs of an IPv6 options header in `bytes[start, end)`, padding included; stops at the first malformed one. */
export function walkIpv6Options(bytes: Uint8Array, start: number, end: number): OptionList {
  const options: Option[] = [];
  const limit = Math.min(end, bytes.length);
  for (let at = start; at < limit; ) {
    const kind = bytes[at]!;
    const length = kind === 0 ? 1 : at + 1 < limit ? 2 + bytes[at + 1]! : limit + 1;
    if (at + length > limit) return { options, wellFormed: false };
    options.push({ kind, offset: at, data: bytes.subarray(Math.min(at + 2, at + length), at + length) });
    at += length;
  }
  return { options, wellFormed: true };
}

/** Options back to bytes, padded with end-of-list to a multiple of 4: what `options` of IPv4 and TCP headers hold. */
export function emitOptions(
  options: readonly { readonly kind: number; readonly data: Uint8Array }[],
): Uint8Array {
  const bytes: number[] = [];
  for (const { kind, data } of options) {
    if (kind <= 1) bytes.push(kind);
    else bytes.push(kind, data.length + 2, ...data);
  }
  while (bytes.length % 4 !== 0) bytes.push(0);
  return Uint8Array.from(bytes);
}
