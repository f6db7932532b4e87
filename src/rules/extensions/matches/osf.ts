/** `-m osf`: net/netfilter/xt_osf.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** MAXGENRELEN - 1 */
const GENRE_BYTES = 31;

interface OsfState {
  genre: string | undefined;
  negate: boolean;
  ttl: number | undefined;
  log: number | undefined;
}

function level(name: 'ttl' | 'log', summary: string): OptionSpec<OsfState> {
  return {
    name,
    arguments: 1,
    syntax: '0|1|2',
    summary,
    apply(state, [value]) {
      state[name] = boundedNumber(value!, 0, 2);
    },
  };
}

export const osf: MatchExtension = defineMatch<OsfState>({
  name: 'osf',
  families: ['ipv4'],
  summary: 'Operating system of the sender, guessed from its SYN',
  where: { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD], protocols: [Protocol.TCP] },
  options: [
    {
      name: 'genre',
      arguments: 1,
      negatable: true,
      syntax: 'name',
      summary: 'Name of the system in the fingerprints',
      apply(state, [value], negated) {
        state.genre = cutToBytes(value!, GENRE_BYTES);
        state.negate = negated;
      },
    },
    level('ttl', 'TTL as in the fingerprint (0), at most that (1), or any (2)'),
    level('log', 'Logs all fingerprints (0), the first that fits (1), or those known (2)'),
  ],
  initial: () => ({ genre: undefined, negate: false, ttl: undefined, log: undefined }),
  finish: (state) => requireAll('osf', { genre: state.genre !== undefined }),
  print({ genre, negate, ttl, log }) {
    let text = `${negate ? ' !' : ''} --genre ${genre}`;
    if (ttl !== undefined) text += ` --ttl ${ttl}`;
    if (log !== undefined) text += ` --log ${log}`;
    return text;
  },
});
