/**
 * IPv4 addresses that no packet from outside may carry. Source: net/ipv4/route.c (ip_route_input_slow, martian checks);
 * RFC 1122 §3.2.1.3, RFC 1812 §5.3.7.
 */

/**
 * True when routing refuses a packet with these addresses, whatever the routes; 4 bytes each.
 * @param routeLocalnet the sysctl of this name: loopback addresses may come from outside
 */
export function isMartian(source: Uint8Array, destination: Uint8Array, routeLocalnet = false): boolean {
  if ((source[0]! & 0xf0) === 0xe0 || isLimitedBroadcast(source)) return true;
  if (source[0] === 127 && !routeLocalnet) return true;
  // Clients that have no address yet ask everybody.
  if (isLimitedBroadcast(destination) || (isZero(source) && isZero(destination))) return false;
  return isZero(source) || isZero(destination) || (destination[0] === 127 && !routeLocalnet);
}

function isLimitedBroadcast(address: Uint8Array): boolean {
  return address.every((byte) => byte === 0xff);
}

function isZero(address: Uint8Array): boolean {
  return address.every((byte) => byte === 0);
}
