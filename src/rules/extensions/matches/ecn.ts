/** `-m ecn`: net/netfilter/xt_ecn.c; RFC 3168. */
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { requireAny } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import { hasBytes, tosOf } from '../header.ts';

/** XT_ECN_OP_MATCH_* */
const Operation = { IP: 0x01, ECE: 0x10, CWR: 0x20, ALL: 0x31 } as const;

interface EcnState {
  ece: { readonly negate: boolean } | undefined;
  cwr: { readonly negate: boolean } | undefined;
  /** The two bits in the TOS byte or traffic class. */
  ect: { readonly value: number; readonly negate: boolean } | undefined;
}

function flag(name: string, key: 'ece' | 'cwr', summary: string): OptionSpec<EcnState> {
  return {
    name,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negate) {
      state[key] = { negate };
    },
  };
}

const TCP_HEADER_BYTES = 20;
const TCP_ECE = 0x40;
const TCP_CWR = 0x80;

/** The first condition that does not hold, in words. */
function failing({ ect, ece, cwr }: EcnState, packet: EvaluationPacket): string | undefined {
  const codepoint = tosOf(packet) & 3;
  if (ect && (codepoint === ect.value) === ect.negate)
    return `codepoint ${codepoint} is ${ect.negate ? '' : 'not '}${ect.value}`;
  if (!ece && !cwr) return undefined;
  if (!hasBytes(packet, packet.transportOffset, TCP_HEADER_BYTES)) return 'the TCP header is cut short';
  const flags = packet.bytes[packet.transportOffset + 13]!;
  for (const [name, bit, given] of [
    ['ECE', TCP_ECE, ece],
    ['CWR', TCP_CWR, cwr],
  ] as const)
    if (given && ((flags & bit) !== 0) === given.negate) return `${name} is ${given.negate ? '' : 'not '}set`;
  return undefined;
}

export const ecn: MatchExtension = defineMatch<EcnState>({
  name: 'ecn',
  families: ['ipv4', 'ipv6'],
  summary: 'Explicit congestion notification in the IP and TCP headers',
  where: (state) => (state.ece || state.cwr ? { protocols: [Protocol.TCP] } : {}),
  options: [
    flag('ecn-tcp-cwr', 'cwr', 'The TCP flag CWR is set'),
    flag('ecn-tcp-ece', 'ece', 'The TCP flag ECE is set'),
    {
      name: 'ecn-ip-ect',
      arguments: 1,
      negatable: true,
      syntax: 'codepoint',
      summary: 'The ECN codepoint in the IP header, 0 to 3',
      apply(state, [value], negate) {
        state.ect = { value: boundedNumber(value!, 0, 3), negate };
      },
    },
  ],
  initial: () => ({ ece: undefined, cwr: undefined, ect: undefined }),
  finish(state) {
    requireAny('ecn', {
      'ecn-tcp-cwr': state.cwr !== undefined,
      'ecn-tcp-ece': state.ece !== undefined,
      'ecn-ip-ect': state.ect !== undefined,
    });
  },
  list({ ece, cwr, ect }) {
    let text = ' ECN match';
    if (ece) text += ` ${ece.negate ? '!' : ''}ECE`;
    if (cwr) text += ` ${cwr.negate ? '!' : ''}CWR`;
    if (ect) text += ` ${ect.negate ? '!' : ''}ECT=${ect.value}`;
    return text;
  },
  print({ ece, cwr, ect }) {
    let text = '';
    if (ece) text += `${ece.negate ? ' !' : ''} --ecn-tcp-ece`;
    if (cwr) text += `${cwr.negate ? ' !' : ''} --ecn-tcp-cwr`;
    if (ect) text += `${ect.negate ? ' !' : ''} --ecn-ip-ect ${ect.value}`;
    return text;
  },
  // struct xt_ecn_info
  abi: [
    {
      name: 'ecn',
      revision: 0,
      size: 4,
      decode(view) {
        const operation = view.getUint8(0);
        const invert = view.getUint8(1);
        if ((operation & ~Operation.ALL) !== 0 || (invert & ~Operation.ALL) !== 0)
          refuse('ecn looks at something unknown');
        const given = (bit: number): { negate: boolean } | undefined =>
          (operation & bit) === 0 ? undefined : { negate: (invert & bit) !== 0 };
        const codepoint = given(Operation.IP);
        return {
          ece: given(Operation.ECE),
          cwr: given(Operation.CWR),
          ect: codepoint && { ...codepoint, value: view.getUint8(2) },
        };
      },
      encode({ ece, cwr, ect }, view) {
        const bits = (negated: boolean): number =>
          (
            [
              [Operation.ECE, ece],
              [Operation.CWR, cwr],
              [Operation.IP, ect],
            ] as const
          ).reduce((sum, [bit, given]) => (given && (given.negate || !negated) ? sum | bit : sum), 0);
        view.setUint8(0, bits(false));
        view.setUint8(1, bits(true));
        view.setUint8(2, ect?.value ?? 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => failing(state, packet) === undefined,
    explain: (state, packet) => failing(state, packet) ?? '',
  },
});
