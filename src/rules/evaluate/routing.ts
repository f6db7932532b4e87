/**
 * The routing decision between PRE_ROUTING and the next hook, as rules and the evaluator ask for it. The netstack's `Fib` is one.
 */

export type RouteFault =
  | 'martian-source'
  | 'martian-destination'
  | 'no-route'
  | 'unreachable'
  | 'prohibited'
  | 'blackhole'
  | 'not-forwarding'
  | 'not-joined';

export type RouteDecision =
  | { readonly kind: 'local' }
  | { readonly kind: 'forward'; readonly outDevice: string }
  | { readonly kind: 'drop'; readonly fault: RouteFault };

/** What the evaluator asks of routing. Addresses are in network order. */
export interface Routing {
  /** Where a packet goes that came in by this device. */
  input(source: Uint8Array, destination: Uint8Array, inDevice: string): RouteDecision;
  /** The device by which a packet of this host leaves; `undefined`: no route. */
  output(destination: Uint8Array): string | undefined;
  /** RTN_* of an address; with a device, local to it. */
  addressType(address: Uint8Array, device?: string): number;
}

export const RTN = { UNICAST: 1, LOCAL: 2, BROADCAST: 3, ANYCAST: 4, MULTICAST: 5, UNREACHABLE: 7 } as const;
