/** `-j NETMAP`: net/netfilter/xt_NETMAP.c. */
import { applyMask, type Family, formatAddressBytes, lengthOfMask } from '../../../net/index.ts';
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { type HostMask, parseHostMask } from '../../text/host.ts';
import { requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import type { AbiForm } from '../../uapi/payload.ts';
import { emptyNatRange, natForm } from '../nat-range.ts';

interface NetmapState {
  to: HostMask | undefined;
}

/** The network as a range: from its first address to its last. */
function form(layout: 'compat' | 'range', family: Family): AbiForm<NetmapState> {
  const range = natForm('NETMAP', 0, layout, [family]);
  return {
    ...range,
    decode(view, context) {
      const addresses = range.decode(view, context)?.addresses;
      if (addresses === undefined) refuse('NETMAP has no network');
      const { min, max } = addresses;
      return { to: { address: min, mask: min.map((byte, index) => ~(byte ^ max[index]!) & 0xff) } };
    },
    encode({ to }, view, context) {
      const { address, mask } = to!;
      const last = address.map((byte, index) => byte | (~mask[index]! & 0xff));
      range.encode({ ...emptyNatRange(), addresses: { min: address, max: last } }, view, context);
    },
  };
}

export const netmap: TargetExtension = defineTarget<NetmapState>({
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
  abi: [form('compat', 'ipv4'), form('range', 'ipv6')],
  effect: ({ to }, _packet, host) =>
    host.translate({ kind: 'network', address: to!.address, mask: to!.mask }),
});
