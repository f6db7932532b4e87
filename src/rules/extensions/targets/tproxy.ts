/** `-j TPROXY`: net/netfilter/xt_TPROXY.c, revision 1. */
import { Hook } from '../../../ir/index.ts';
import { addressLength, formatAddressBytes } from '../../../net/index.ts';
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { parsePort } from '../../names/services.ts';
import { parseHostAddress } from '../../text/host.ts';
import { type MaskedMark, parseMaskedMark } from '../../text/mark.ts';
import { hex } from '../../text/number.ts';
import { requireAll } from '../../text/requirement.ts';
import { type AbiForm, readAddress, writeBytes } from '../../uapi/payload.ts';

interface TproxyState {
  /** 0: the port the packet is for. */
  port: number | undefined;
  /** All zeros: the address of the device the packet came in by. */
  address: Uint8Array;
  mark: MaskedMark;
}

function tproxyForm(revision: number, portAt: number, size: number): AbiForm<TproxyState> {
  return {
    name: 'TPROXY',
    revision,
    size,
    decode: (view, { family }) => ({
      mark: { mask: view.getUint32(0, true), value: view.getUint32(4, true) },
      address: readAddress(view, 8, family),
      port: view.getUint16(portAt),
    }),
    encode({ mark, address, port }, view) {
      view.setUint32(0, mark.mask, true);
      view.setUint32(4, mark.value, true);
      writeBytes(view, 8, address);
      view.setUint16(portAt, port!);
    },
  };
}

export const tproxy: TargetExtension = defineTarget<TproxyState>({
  name: 'TPROXY',
  families: ['ipv4', 'ipv6'],
  summary: 'Hands the packet to a socket of this host without changing it',
  where: { tables: ['mangle'], hooks: [Hook.PRE_ROUTING], protocols: [Protocol.TCP, Protocol.UDP] },
  options: [
    {
      name: 'on-port',
      arguments: 1,
      syntax: 'port',
      summary: 'Port of the socket; 0 for that of the packet',
      apply(state, [value]) {
        state.port = parsePort(value!);
      },
    },
    {
      name: 'on-ip',
      arguments: 1,
      syntax: 'address',
      summary: 'Address of the socket; that of the incoming device when not given',
      apply(state, [value], _negated, { family }) {
        state.address = parseHostAddress(value!, family);
      },
    },
    {
      name: 'tproxy-mark',
      arguments: 1,
      syntax: 'value[/mask]',
      summary: 'Clears the bits of the mask in the mark of the packet, then XORs the value',
      apply(state, [value]) {
        state.mark = parseMaskedMark(value!);
      },
    },
  ],
  initial: ({ family }) => ({
    port: undefined,
    address: new Uint8Array(addressLength(family)),
    mark: { value: 0, mask: 0 },
  }),
  finish: (state) => requireAll('TPROXY', { 'on-port': state.port !== undefined }),
  print: ({ port, address, mark }) =>
    ` --on-port ${port} --on-ip ${formatAddressBytes(address)} --tproxy-mark ${hex(mark.value)}/${hex(mark.mask)}`,
  // struct xt_tproxy_target_info_v1; revision 0 has room for an IPv4 address only
  abi: [tproxyForm(1, 24, 28), { ...tproxyForm(0, 12, 16), families: ['ipv4'] }],
  effect({ address, port, mark }, packet, host) {
    const given = address.some((byte) => byte !== 0) ? address : undefined;
    if (!host.redirectToSocket(given, port!)) return 'drop';
    packet.mark = ((packet.mark & ~mark.mask) ^ mark.value) >>> 0;
    return 'accept';
  },
});
