/** `-j TCPMSS`: net/netfilter/xt_TCPMSS.c. */

import { Hook } from '../../../ir/index.ts';
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { matchesSyn } from '../matches/tcp.ts';
import { withMaximumSegment } from '../segment-size.ts';

/** The largest packet less the shortest headers. */
const MAXIMUM_MSS = { ipv4: 65_535 - 20, ipv6: 65_535 - 40 } as const;

/** XT_TCPMSS_CLAMP_PMTU */
const CLAMP = 0xffff;

interface TcpmssState {
  mss: number | 'clamp' | undefined;
}

export const tcpmss: TargetExtension = defineTarget<TcpmssState>({
  name: 'TCPMSS',
  families: ['ipv4', 'ipv6'],
  summary: 'Changes the maximum segment size that a SYN offers, and goes on',
  where: ({ mss }) => ({
    protocols: [Protocol.TCP],
    ...(mss === 'clamp' ? { hooks: [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING] } : {}),
  }),
  options: [
    {
      name: 'set-mss',
      arguments: 1,
      syntax: 'number',
      summary: 'The size',
      apply(state, [value], _negated, { family }) {
        state.mss = boundedNumber(value!, 0, MAXIMUM_MSS[family]);
      },
    },
    {
      name: 'clamp-mss-to-pmtu',
      arguments: 0,
      summary: 'The MTU of the path less the headers, if that is less',
      apply(state) {
        state.mss = 'clamp';
      },
    },
  ],
  initial: () => ({ mss: undefined }),
  finish(state) {
    if (state.mss === undefined)
      throw new OptionError('an option is missing', { hint: '--set-mss or --clamp-mss-to-pmtu' });
  },
  admit(_state, { matches }) {
    if (!matches.some(matchesSyn))
      throw new OptionError('the rule is not limited to packets with SYN', {
        hint: 'add --tcp-flags SYN,RST SYN to the rule',
        argument: -1,
      });
  },
  // struct xt_tcpmss_info
  abi: [
    {
      name: 'TCPMSS',
      revision: 0,
      size: 2,
      decode(view) {
        const mss = view.getUint16(0, true);
        return { mss: mss === CLAMP ? 'clamp' : mss };
      },
      encode: ({ mss }, view) => view.setUint16(0, mss === 'clamp' ? CLAMP : mss!, true),
    },
  ],
  effect({ mss }, packet, host) {
    const headers = packet.family === 'ipv4' ? 40 : 60;
    const wanted = mss === 'clamp' ? host.pathMtu() - headers : mss!;
    const changed = wanted <= 0 ? undefined : withMaximumSegment(packet, wanted);
    if (changed === undefined) return 'drop';
    host.replace(changed);
    return 'continue';
  },
  print: ({ mss }) => (mss === 'clamp' ? ' --clamp-mss-to-pmtu' : ` --set-mss ${mss}`),
});
