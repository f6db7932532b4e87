/** `-m eui64`: net/ipv6/netfilter/ip6t_eui64.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';

export const eui64: MatchExtension = defineMatch<Record<string, never>>({
  name: 'eui64',
  families: ['ipv6'],
  summary: 'The interface identifier of the source address is made of its MAC address',
  where: { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD] },
  options: [],
  initial: () => ({}),
  print: () => '',
  // An int that nobody reads.
  abi: [{ name: 'eui64', revision: 0, size: 4, decode: () => ({}), encode() {} }],
});
