/** `-m rpfilter`: net/ipv4/netfilter/ipt_rpfilter.c and ip6t_rpfilter.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';

type Flag = 'loose' | 'validmark' | 'accept-local' | 'invert';

/** In the order of printing. */
const FLAGS: readonly (readonly [name: Flag, summary: string])[] = [
  ['loose', 'Any device will do, as long as there is a route'],
  ['validmark', 'The mark of the packet takes part in the look-up'],
  ['accept-local', 'Packets from addresses of this host pass'],
  ['invert', 'Matches packets that fail the test'],
];

export const rpfilter: MatchExtension = defineMatch<Set<Flag>>({
  name: 'rpfilter',
  families: ['ipv4', 'ipv6'],
  summary: 'Reverse path filter: a reply would leave by the device the packet came in by',
  where: { tables: ['raw', 'mangle'], hooks: [Hook.PRE_ROUTING] },
  options: FLAGS.map(
    ([name, summary]): OptionSpec<Set<Flag>> => ({
      name,
      arguments: 0,
      summary,
      apply(state) {
        state.add(name);
      },
    }),
  ),
  initial: () => new Set(),
  print: (state) =>
    FLAGS.filter(([name]) => state.has(name))
      .map(([name]) => ` --${name}`)
      .join(''),
});
