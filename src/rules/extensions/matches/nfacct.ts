/** `-m nfacct`: net/netfilter/xt_nfacct.c. Whether the object exists is for the host to say. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { type AbiForm, readText, writeText } from '../../uapi/payload.ts';

/** NFACCT_NAME_MAX - 1 */
const NAME_BYTES = 31;

interface NfacctState {
  name: string | undefined;
}

/** struct xt_nfacct_match_info and xt_nfacct_match_info_v1, which differ on machines of 32 bits only. */
function form(revision: number): AbiForm<NfacctState> {
  return {
    name: 'nfacct',
    revision,
    everyFamily: true,
    size: 40,
    userSize: 32,
    decode: (view) => ({ name: readText(view, 0, NAME_BYTES + 1) }),
    encode: ({ name }, view) => writeText(view, 0, NAME_BYTES + 1, name!),
  };
}

export const nfacct: MatchExtension = defineMatch<NfacctState>({
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
  abi: [form(1), form(0)],
});
