/** `-j CHECKSUM`: net/netfilter/xt_CHECKSUM.c. */
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';

export const checksum: TargetExtension = defineTarget<{ fill: boolean }>({
  name: 'CHECKSUM',
  families: ['ipv4', 'ipv6'],
  summary: 'Fills in a checksum that was left to the device, and goes on',
  where: { tables: ['mangle'] },
  options: [
    {
      name: 'checksum-fill',
      arguments: 0,
      summary: 'Computes the checksum',
      apply(state) {
        state.fill = true;
      },
    },
  ],
  initial: () => ({ fill: false }),
  finish: ({ fill }) => requireAll('CHECKSUM', { 'checksum-fill': fill }),
  print: () => ' --checksum-fill',
  // struct xt_CHECKSUM_info
  abi: [
    {
      name: 'CHECKSUM',
      revision: 0,
      size: 1,
      decode(view) {
        if (view.getUint8(0) !== 1) refuse('CHECKSUM does nothing that is known');
        return { fill: true };
      },
      encode: (_state, view) => view.setUint8(0, 1),
    },
  ],
  // Packets here never leave a checksum to the device: nothing is to be filled in.
  effect: () => 'continue',
});
