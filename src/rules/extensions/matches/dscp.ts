/** `-m dscp`: net/netfilter/xt_dscp.c dscp_mt. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { formatDscp, parseDscp, parseDscpClass } from '../../text/dscp.ts';
import { AbiErrno, AbiError } from '../../uapi/errno.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { fieldIs, tosOf } from '../header.ts';

interface DscpState {
  /** -1 until an option was seen. */
  codepoint: number;
  negate: boolean;
}

/** The codepoint is the upper six bits of the byte. */
const SHIFT = 2;
/** XT_DSCP_MAX. */
const MAXIMUM = 0x3f;

function setCodepoint(state: DscpState, codepoint: number, negated: boolean): void {
  if (state.codepoint >= 0)
    throw new OptionError('only one of --dscp and --dscp-class is possible', { argument: -1 });
  state.codepoint = codepoint;
  state.negate = negated;
}

export const dscp: MatchExtension = defineMatch<DscpState>({
  name: 'dscp',
  families: ['ipv4', 'ipv6'],
  summary: 'DiffServ codepoint: the upper six bits of the TOS byte or traffic class',
  options: [
    {
      name: 'dscp',
      arguments: 1,
      negatable: true,
      syntax: 'value',
      summary: 'The codepoint, 0 to 63',
      apply(state, [value], negated) {
        setCodepoint(state, parseDscp(value!), negated);
      },
    },
    {
      name: 'dscp-class',
      arguments: 1,
      negatable: true,
      syntax: 'class',
      summary: 'The codepoint of a class: BE, EF, AF11 to AF43, CS0 to CS7',
      apply(state, [value], negated) {
        setCodepoint(state, parseDscpClass(value!), negated);
      },
    },
  ],
  initial: () => ({ codepoint: -1, negate: false }),
  finish(state) {
    if (state.codepoint < 0)
      throw new OptionError('an option is missing', { hint: '--dscp or --dscp-class' });
  },
  list: (state) => ` DSCP match ${state.negate ? '!' : ''}${formatDscp(state.codepoint)}`,
  print: (state) => `${state.negate ? ' !' : ''} --dscp ${formatDscp(state.codepoint)}`,
  // struct xt_dscp_info
  abi: [
    {
      name: 'dscp',
      revision: 0,
      size: 2,
      decode(view) {
        const codepoint = view.getUint8(0);
        if (codepoint > MAXIMUM) throw new AbiError(AbiErrno.EDOM, `${codepoint} is not a DSCP`);
        return { codepoint, negate: readBoolean(view, 1) };
      },
      encode(state, view) {
        view.setUint8(0, state.codepoint);
        view.setUint8(1, state.negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => (tosOf(packet) >> SHIFT === state.codepoint) !== state.negate,
    lower: (state) => [fieldIs('ip.tos', state.codepoint << SHIFT, state.negate, 0xfc)],
    explain: (state, packet) =>
      `DSCP ${formatDscp(tosOf(packet) >> SHIFT)} is ${state.negate ? '' : 'not '}${formatDscp(state.codepoint)}`,
  },
});
