/** `-m socket`: net/netfilter/xt_socket.c, revision 3. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';

type Flag = 'transparent' | 'nowildcard' | 'restore-skmark';

/** In the order of printing. */
const FLAGS: readonly (readonly [name: Flag, summary: string])[] = [
  ['transparent', 'Only sockets with IP_TRANSPARENT'],
  ['nowildcard', 'Sockets bound to no address count too'],
  ['restore-skmark', 'The packet gets the mark of the socket'],
];

export const socket: MatchExtension = defineMatch<Set<Flag>>({
  name: 'socket',
  families: ['ipv4', 'ipv6'],
  summary: 'An open TCP or UDP socket that the packet belongs to',
  where: { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN] },
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
