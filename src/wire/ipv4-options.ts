/** Which IPv4 options Linux lets pass. Source: net/ipv4/ip_options.c (ip_options_compile), net/ipv4/ip_input.c (ip_rcv_options). */

/**
 * ip_options_compile() with the default accept_source_route=0: false means dropped, after PRE_ROUTING.
 *
 * @param bytes an IPv4 packet whose header is whole
 */
export function ipv4OptionsAreAccepted(bytes: Uint8Array): boolean {
  const end = (bytes[0]! & 0x0f) * 4;
  let at = 20;
  let recordRoute = false;
  let timestamp = false;
  while (at < end) {
    const kind = bytes[at]!;
    if (kind === 0) return true;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 2 > end) return false;
    const length = bytes[at + 1]!;
    if (length < 2 || at + length > end) return false;
    const option = bytes.subarray(at, at + length);
    switch (kind) {
      case 131: // loose and strict source route
      case 137:
        return false;
      case 7:
        if (recordRoute || !recordRouteIsSound(option)) return false;
        recordRoute = true;
        break;
      case 68:
        if (timestamp || !timestampIsSound(option)) return false;
        timestamp = true;
        break;
      case 148:
        if (length < 4) return false;
        break;
    }
    at += length;
  }
  return true;
}

function recordRouteIsSound(option: Uint8Array): boolean {
  if (option.length < 3) return false;
  const pointer = option[2]!;
  return pointer >= 4 && (pointer > option.length || pointer + 3 <= option.length);
}

function timestampIsSound(option: Uint8Array): boolean {
  if (option.length < 4) return false;
  const pointer = option[2]!;
  if (pointer < 5) return false;
  const form = option[3]! & 0x0f;
  if (pointer > option.length) return form === 3 || option[3]! >> 4 !== 15;
  if (pointer + 3 > option.length) return false;
  return (form !== 1 && form !== 3) || pointer + 7 <= option.length;
}
