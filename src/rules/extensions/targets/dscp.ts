/** `-j DSCP`: net/netfilter/xt_DSCP.c dscp_tg. */

import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { formatDscp, parseDscp, parseDscpClass } from '../../text/dscp.ts';
import { AbiErrno, AbiError } from '../../uapi/errno.ts';
import { exclusiveOptions } from '../exclusive-option.ts';
import { withDsField } from '../header-change.ts';

interface DscpState {
  codepoint: number | undefined;
}

const option = exclusiveOptions<'codepoint', number>(
  'codepoint',
  'only one of --set-dscp and --set-dscp-class is possible',
);

export const dscp: TargetExtension = defineTarget<DscpState>({
  name: 'DSCP',
  families: ['ipv4', 'ipv6'],
  summary: 'Sets the DiffServ codepoint and goes on',
  where: { tables: ['mangle'] },
  options: [
    option('set-dscp', 'value', 'The codepoint, 0 to 63', parseDscp),
    option(
      'set-dscp-class',
      'class',
      'The codepoint of a class: BE, EF, AF11 to AF43, CS0 to CS7',
      parseDscpClass,
    ),
  ],
  initial: () => ({ codepoint: undefined }),
  finish(state) {
    if (state.codepoint === undefined)
      throw new OptionError('an option is missing', { hint: '--set-dscp or --set-dscp-class' });
  },
  print: (state) => ` --set-dscp ${formatDscp(state.codepoint!)}`,
  // struct xt_DSCP_info
  abi: [
    {
      name: 'DSCP',
      revision: 0,
      size: 1,
      decode(view) {
        const codepoint = view.getUint8(0);
        if (codepoint > 0x3f) throw new AbiError(AbiErrno.EDOM, `${codepoint} is not a DSCP`);
        return { codepoint };
      },
      encode: ({ codepoint }, view) => view.setUint8(0, codepoint!),
    },
  ],
  effect(state, packet, host) {
    host.replace(withDsField(packet, (field) => (field & 3) | (state.codepoint! << 2)));
    return 'continue';
  },
});
