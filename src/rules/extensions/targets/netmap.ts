/** `-j NETMAP`: net/netfilter/xt_NETMAP.c. */
import { applyMask, formatAddressBytes, lengthOfMask } from '../../../net/index.ts';
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { type HostMask, parseHostMask } from '../../text/host.ts';
import { requireAll } from '../../text/requirement.ts';

export const netmap: TargetExtension = defineTarget<{ to: HostMask | undefined }>({
  name: 'NETMAP',
  families: ['ipv4', 'ipv6'],
  summary:
    'Replaces the network part of an address, of the destination before routing and of the source after it',
  where: { tables: ['nat'] },
  options: [
    {
      name: 'to',
      arguments: 1,
      syntax: 'address[/mask]',
      summary: 'The network in its place',
      apply(state, [value], _negated, { family }) {
        const { address, mask } = parseHostMask(value!, family);
        state.to = { address: applyMask(address, mask), mask };
      },
    },
  ],
  initial: () => ({ to: undefined }),
  finish: (state) => requireAll('NETMAP', { to: state.to !== undefined }),
  print: ({ to }) => ` --to ${formatAddressBytes(to!.address)}/${lengthOfMask(to!.mask)}`,
  effect: ({ to }, _packet, host) =>
    host.translate({ kind: 'network', address: to!.address, mask: to!.mask }),
});
