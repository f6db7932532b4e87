/** `-j CHECKSUM`: net/netfilter/xt_CHECKSUM.c. */
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';

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
  // Packets here never leave a checksum to the device: nothing is to be filled in.
  effect: () => 'continue',
});
