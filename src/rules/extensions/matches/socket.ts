/** `-m socket`: net/netfilter/xt_socket.c, revision 3. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import type { AbiForm } from '../../uapi/payload.ts';
import { decodeFlags, encodeFlags, type FlagTable, flagOptions, printFlags } from '../flag-option.ts';

type Flag = 'transparent' | 'nowildcard' | 'restore-skmark';

const FLAGS: FlagTable<Flag> = [
  ['transparent', 'Only sockets with IP_TRANSPARENT'],
  ['nowildcard', 'Sockets bound to no address count too'],
  ['restore-skmark', 'The packet gets the mark of the socket'],
];

function socketForm(revision: number): AbiForm<Set<Flag>> {
  const known = FLAGS.slice(0, revision);
  return {
    name: 'socket',
    revision,
    size: 1,
    decode: (view) => (revision === 0 ? new Set() : decodeFlags(known, view, 0, 'socket')),
    encode(state, view) {
      if (revision > 0) view.setUint8(0, encodeFlags(known, state));
    },
  };
}

export const socket: MatchExtension = defineMatch<Set<Flag>>({
  name: 'socket',
  families: ['ipv4', 'ipv6'],
  summary: 'An open TCP or UDP socket that the packet belongs to',
  where: { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN] },
  options: flagOptions(FLAGS),
  initial: () => new Set(),
  print: (state) => printFlags(FLAGS, state),
  // struct xt_socket_mtinfo1 to 3: each revision knows one flag more
  abi: [socketForm(3), socketForm(2), socketForm(1), { ...socketForm(0), families: ['ipv4'], size: 0 }],
  // Programs of these hooks cannot look sockets up.
  semantics: {
    evaluate(state, packet) {
      const found = packet.world.findSocket?.(packet);
      if (found === undefined) return false;
      const wildcard = found.wildcard && !state.has('nowildcard');
      const transparent = found.transparent || !state.has('transparent');
      if (wildcard || !transparent) return false;
      if (state.has('restore-skmark')) packet.mark = found.mark;
      return true;
    },
    explain(state, packet) {
      const found = packet.world.findSocket?.(packet);
      if (found === undefined) return 'there is no socket for the packet';
      if (found.wildcard && !state.has('nowildcard')) return 'its socket is bound to no address';
      return 'its socket is not transparent';
    },
  },
});
