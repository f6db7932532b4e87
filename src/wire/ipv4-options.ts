/** IPv4 options as Linux reads them (RFC 791 §3.1). Source: net/ipv4/ip_options.c (ip_options_compile), net/ipv4/ip_input.c. */

export const IPOPT_END = 0;
export const IPOPT_NOOP = 1;
const IPOPT_RR = 7;
const IPOPT_TIMESTAMP = 68;
const IPOPT_LSRR = 131;
const IPOPT_SSRR = 137;
const IPOPT_RA = 148;

/** Form of a timestamp option: times alone, each with its address, or at addresses that the sender names. */
export const TimestampForm = { TIMES: 0, ADDRESSES: 1, PRESPECIFIED: 3 } as const;

/** Where the options are that routers write into; offsets from the IP header, 0 for none. */
export interface Ipv4Options {
  /** Offset of the byte that is wrong: what a parameter problem points at. Nothing behind it was read. */
  readonly fault: number | undefined;
  /** A source route, loose or strict: not accepted unless somebody asked for it. */
  readonly sourceRoute: boolean;
  readonly recordRoute: number;
  readonly timestamp: number;
  /** Where the list ends before the header does; what follows is padding. */
  readonly end: number;
}

const NONE: Ipv4Options = { fault: undefined, sourceRoute: false, recordRoute: 0, timestamp: 0, end: 20 };

/** Reads the options of a packet whose header is whole. */
export function readIpv4Options(bytes: Uint8Array): Ipv4Options {
  const end = (bytes[0]! & 0x0f) * 4;
  if (end === 20) return NONE;
  const found = {
    fault: undefined as number | undefined,
    sourceRoute: false,
    recordRoute: 0,
    timestamp: 0,
    end,
  };
  let at = 20;
  while (at < end) {
    const kind = bytes[at]!;
    if (kind === IPOPT_END) return { ...found, end: at };
    if (kind === IPOPT_NOOP) {
      at++;
      continue;
    }
    const length = at + 2 > end ? 0 : bytes[at + 1]!;
    if (length < 2 || at + length > end) return { ...found, fault: at };
    const option = bytes.subarray(at, at + length);
    switch (kind) {
      case IPOPT_LSRR:
      case IPOPT_SSRR: {
        const fault = length < 3 ? 1 : option[2]! < 4 ? 2 : found.sourceRoute ? 0 : undefined;
        if (fault !== undefined) return { ...found, fault: at + fault };
        found.sourceRoute = true;
        break;
      }
      case IPOPT_RR: {
        const fault = found.recordRoute > 0 ? 0 : recordRouteFault(option);
        if (fault !== undefined) return { ...found, fault: at + fault };
        found.recordRoute = at;
        break;
      }
      case IPOPT_TIMESTAMP: {
        const fault = found.timestamp > 0 ? 0 : timestampFault(option);
        if (fault !== undefined) return { ...found, fault: at + fault };
        found.timestamp = at;
        break;
      }
      case IPOPT_RA:
        if (length < 4) return { ...found, fault: at + 1 };
        break;
    }
    at += length;
  }
  return found;
}

/**
 * ip_options_compile() with the default accept_source_route=0: false means dropped, after PRE_ROUTING.
 *
 * @param bytes an IPv4 packet whose header is whole
 */
export function ipv4OptionsAreAccepted(bytes: Uint8Array): boolean {
  const { fault, sourceRoute } = readIpv4Options(bytes);
  return fault === undefined && !sourceRoute;
}

/** Offset in the option of what is wrong with it. */
function recordRouteFault(option: Uint8Array): number | undefined {
  if (option.length < 3) return 1;
  const pointer = option[2]!;
  return pointer < 4 || (pointer <= option.length && pointer + 3 > option.length) ? 2 : undefined;
}

function timestampFault(option: Uint8Array): number | undefined {
  if (option.length < 4) return 1;
  const pointer = option[2]!;
  if (pointer < 5) return 2;
  const form = option[3]! & 0x0f;
  if (pointer > option.length) {
    return form !== TimestampForm.PRESPECIFIED && option[3]! >> 4 === 15 ? 3 : undefined;
  }
  if (pointer + 3 > option.length) return 2;
  const withAddress = form === TimestampForm.ADDRESSES || form === TimestampForm.PRESPECIFIED;
  return withAddress && pointer + 7 > option.length ? 2 : undefined;
}
