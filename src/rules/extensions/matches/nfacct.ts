/** `-m nfacct`: net/netfilter/xt_nfacct.c. Whether the object exists is for the host to say. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** NFACCT_NAME_MAX - 1 */
const NAME_BYTES = 31;

export const nfacct: MatchExtension = defineMatch<{ name: string | undefined }>({
  name: 'nfacct',
  families: ['ipv4', 'ipv6'],
  summary: 'Counts the packet in an accounting object of nfnetlink; matches always',
  options: [
    {
      name: 'nfacct-name',
      arguments: 1,
      syntax: 'name',
      summary: 'The object',
      apply(state, [value]) {
        state.name = cutToBytes(value!, NAME_BYTES);
      },
    },
  ],
  initial: () => ({ name: undefined }),
  finish: (state) => requireAll('nfacct', { 'nfacct-name': state.name !== undefined }),
  print: (state) => ` --nfacct-name ${state.name}`,
});
