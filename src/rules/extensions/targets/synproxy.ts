/** `-j SYNPROXY`: net/ipv4/netfilter/ipt_SYNPROXY.c, net/ipv6/netfilter/ip6t_SYNPROXY.c. */
import { Hook } from '../../../ir/index.ts';
import { defineTarget, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';

/** NF_SYNPROXY_OPT_* */
const Flag = { MSS: 0x1, WINDOW_SCALE: 0x2, SACK: 0x4, TIMESTAMP: 0x8, ECN: 0x10 } as const;

interface SynproxyState {
  sackPermitted: boolean;
  timestamp: boolean;
  ecn: boolean;
  windowScale: number | undefined;
  mss: number | undefined;
}

function flag(
  name: string,
  key: 'sackPermitted' | 'timestamp' | 'ecn',
  summary: string,
): OptionSpec<SynproxyState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      state[key] = true;
    },
  };
}

function number(
  name: string,
  key: 'windowScale' | 'mss',
  max: number,
  summary: string,
): OptionSpec<SynproxyState> {
  return {
    name,
    arguments: 1,
    syntax: 'number',
    summary,
    apply(state, [value]) {
      state[key] = boundedNumber(value!, 0, max);
    },
  };
}

export const synproxy: TargetExtension = defineTarget<SynproxyState>({
  name: 'SYNPROXY',
  families: ['ipv4', 'ipv6'],
  summary: 'Answers SYN in place of the server, which sees a connection only when the client is there',
  where: { hooks: [Hook.LOCAL_IN, Hook.FORWARD], protocols: [Protocol.TCP] },
  options: [
    flag('sack-perm', 'sackPermitted', 'The server permits selective acknowledgement'),
    flag('timestamp', 'timestamp', 'The server uses timestamps'),
    number('wscale', 'windowScale', 0xff, 'The window scale of the server'),
    number('mss', 'mss', 0xffff, 'The maximum segment size of the server'),
    flag('ecn', 'ecn', 'The server uses explicit congestion notification'),
  ],
  initial: () => ({
    sackPermitted: false,
    timestamp: false,
    ecn: false,
    windowScale: undefined,
    mss: undefined,
  }),
  print({ sackPermitted, timestamp, ecn, windowScale, mss }) {
    let text = sackPermitted ? ' --sack-perm' : '';
    if (timestamp) text += ' --timestamp';
    if (windowScale !== undefined) text += ` --wscale ${windowScale}`;
    if (mss !== undefined) text += ` --mss ${mss}`;
    return ecn ? `${text} --ecn` : text;
  },
  // struct xt_synproxy_info
  abi: [
    {
      name: 'SYNPROXY',
      revision: 0,
      size: 4,
      decode(view) {
        const options = view.getUint8(0);
        const has = (bit: number): boolean => (options & bit) !== 0;
        return {
          sackPermitted: has(Flag.SACK),
          timestamp: has(Flag.TIMESTAMP),
          ecn: has(Flag.ECN),
          windowScale: has(Flag.WINDOW_SCALE) ? view.getUint8(1) : undefined,
          mss: has(Flag.MSS) ? view.getUint16(2, true) : undefined,
        };
      },
      encode({ sackPermitted, timestamp, ecn, windowScale, mss }, view) {
        let options = sackPermitted ? Flag.SACK : 0;
        if (timestamp) options |= Flag.TIMESTAMP;
        if (ecn) options |= Flag.ECN;
        if (windowScale !== undefined) options |= Flag.WINDOW_SCALE;
        if (mss !== undefined) options |= Flag.MSS;
        view.setUint8(0, options);
        view.setUint8(1, windowScale ?? 0);
        view.setUint16(2, mss ?? 0, true);
      },
    },
  ],
});
