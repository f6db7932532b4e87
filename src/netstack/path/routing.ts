/** The forwarding information base of either family. */
import type { Fib, FibConfig } from './fib.ts';
import { Ipv4Fib } from './fib-ipv4.ts';
import { Ipv6Fib } from './fib-ipv6.ts';

/** Routing from a configuration. Connected prefixes and 127.0.0.0/8 or ::1 are added to what is given. */
export function createFib(config: FibConfig): Fib {
  return config.family === 'ipv4' ? new Ipv4Fib(config) : new Ipv6Fib(config);
}
