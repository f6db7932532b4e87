/** `-j TEE`: net/netfilter/xt_TEE.c, revision 1. */
import { formatAddressBytes } from '../../../net/index.ts';
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { parseHostAddress } from '../../text/host.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { readAddress, readText, writeBytes, writeText } from '../../uapi/payload.ts';

/** IFNAMSIZ - 1 */
const DEVICE_BYTES = 15;

interface TeeState {
  gateway: Uint8Array | undefined;
  /** Empty when the route decides. */
  device: string;
}

export const tee: TargetExtension = defineTarget<TeeState>({
  name: 'TEE',
  families: ['ipv4', 'ipv6'],
  summary: 'Sends a copy of the packet to another host and goes on',
  options: [
    {
      name: 'gateway',
      arguments: 1,
      syntax: 'address',
      summary: 'The host, in a network of ours',
      apply(state, [value], _negated, { family }) {
        state.gateway = parseHostAddress(value!, family);
      },
    },
    {
      name: 'oif',
      arguments: 1,
      syntax: 'device',
      summary: 'The device the copy leaves by',
      apply(state, [value]) {
        state.device = cutToBytes(value!, DEVICE_BYTES);
      },
    },
  ],
  initial: () => ({ gateway: undefined, device: '' }),
  finish: (state) => requireAll('TEE', { gateway: state.gateway !== undefined }),
  admit({ gateway }) {
    if (gateway!.every((byte) => byte === 0))
      throw new OptionError('the gateway is the empty address', { argument: -1 });
  },
  print: ({ gateway, device }) =>
    ` --gateway ${formatAddressBytes(gateway!)}${device === '' ? '' : ` --oif ${device}`}`,
  // struct xt_tee_tginfo
  abi: [
    {
      name: 'TEE',
      revision: 1,
      size: 40,
      userSize: 32,
      decode: (view, { family }) => ({
        gateway: readAddress(view, 0, family),
        device: readText(view, 16, DEVICE_BYTES + 1),
      }),
      encode({ gateway, device }, view) {
        writeBytes(view, 0, gateway!);
        writeText(view, 16, DEVICE_BYTES + 1, device);
      },
    },
  ],
  effect(state, _packet, host) {
    host.duplicate(state.gateway!, state.device);
    return 'continue';
  },
});
