/** `-m mac`: net/netfilter/xt_mac.c. Packets without an Ethernet header never match, negated or not. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBytes, writeBytes } from '../../uapi/payload.ts';

interface MacState {
  address: Uint8Array | undefined;
  negate: boolean;
}

const ADDRESS_BYTES = 6;

function parseMac(text: string): Uint8Array {
  const parts = text.split(':');
  if (parts.length !== ADDRESS_BYTES || parts.some((part) => !/^[0-9a-fA-F]{1,2}$/.test(part)))
    throw new OptionError(`"${text}" is not a MAC address`, { hint: 'six bytes: 00:11:22:33:44:55' });
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}

function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Bytes 6 to 11 of the Ethernet header. */
function sourceOf(ethernet: Uint8Array): Uint8Array {
  return ethernet.subarray(ADDRESS_BYTES, 2 * ADDRESS_BYTES);
}

export const mac: MatchExtension = defineMatch<MacState>({
  name: 'mac',
  families: ['ipv4', 'ipv6'],
  summary: 'Source address of the Ethernet header',
  where: { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD] },
  options: [
    {
      name: 'mac-source',
      arguments: 1,
      negatable: true,
      syntax: 'XX:XX:XX:XX:XX:XX',
      summary: 'The source address',
      apply(state, [value], negated) {
        state.address = parseMac(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ address: undefined, negate: false }),
  finish: (state) => requireAll('mac', { 'mac-source': state.address !== undefined }),
  list: (state) => ` MAC${state.negate ? ' !' : ''} ${formatMac(state.address!)}`,
  print: (state) => `${state.negate ? ' !' : ''} --mac-source ${formatMac(state.address!)}`,
  // struct xt_mac_info
  abi: [
    {
      name: 'mac',
      revision: 0,
      size: 12,
      decode: (view) => ({
        address: readBytes(view, 0, ADDRESS_BYTES),
        negate: view.getInt32(8, true) !== 0,
      }),
      encode(state, view) {
        writeBytes(view, 0, state.address!);
        view.setInt32(8, state.negate ? 1 : 0, true);
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      if (packet.ethernet === undefined) return false;
      const source = sourceOf(packet.ethernet);
      return state.address!.every((byte, index) => byte === source[index]) !== state.negate;
    },
    lower: (state) => [{ kind: 'mac-source', address: state.address!, negate: state.negate }],
    explain(state, packet) {
      if (packet.ethernet === undefined) return 'the packet has no Ethernet header';
      const relation = state.negate ? 'is' : 'is not';
      return `MAC source ${formatMac(sourceOf(packet.ethernet))} ${relation} ${formatMac(state.address!)}`;
    },
  },
});
