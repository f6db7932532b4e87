/** `-m osf`: net/netfilter/xt_osf.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { byteLength, cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** MAXGENRELEN - 1 */
const GENRE_BYTES = 31;

/** NF_OSF_*; iptables does not set that of the genre. */
const Flag = { TTL: 0x2, LOG: 0x4, INVERT: 0x8 } as const;
/** NF_OSF_LOGLEVEL_ALL_KNOWN, NF_OSF_TTL_NOCHECK: the last of each. */
const HIGHEST = 2;

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
      state[name] = boundedNumber(value!, 0, HIGHEST);
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
  // struct nf_osf_info
  abi: [
    {
      name: 'osf',
      revision: 0,
      size: 48,
      decode(view) {
        const [flags, log, ttl] = [36, 40, 44].map((at) => view.getUint32(at, true)) as [
          number,
          number,
          number,
        ];
        if ((flags & ~0xf) !== 0 || log > HIGHEST || ttl > HIGHEST)
          refuse('osf is asked for something unknown');
        return {
          genre: readText(view, 0, GENRE_BYTES + 1),
          negate: (flags & Flag.INVERT) !== 0,
          ttl: (flags & Flag.TTL) === 0 ? undefined : ttl,
          log: (flags & Flag.LOG) === 0 ? undefined : log,
        };
      },
      encode({ genre, negate, ttl, log }, view) {
        let flags = 0;
        if (negate) flags |= Flag.INVERT;
        if (ttl !== undefined) flags |= Flag.TTL;
        if (log !== undefined) flags |= Flag.LOG;
        writeText(view, 0, GENRE_BYTES + 1, genre!);
        view.setUint32(32, byteLength(genre!), true);
        view.setUint32(36, flags, true);
        view.setUint32(40, log ?? 0, true);
        view.setUint32(44, ttl ?? 0, true);
      },
    },
  ],
});
