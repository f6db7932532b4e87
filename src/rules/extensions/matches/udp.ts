/** `-m udp`: net/netfilter/xt_tcpudp.c udp_mt. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { readFlags } from '../../uapi/payload.ts';
import { hasBytes } from '../header.ts';
import {
  allPorts,
  decodePorts,
  encodePorts,
  explainPorts,
  listPorts,
  lowerPorts,
  type PortState,
  portOptions,
  portsMatch,
  printPorts,
} from '../ports.ts';

const HEADER_BYTES = 8;

export const udp: MatchExtension = defineMatch<PortState>({
  name: 'udp',
  families: ['ipv4', 'ipv6'],
  summary: 'Ports of the UDP header; never matches later fragments',
  where: { protocols: [Protocol.UDP] },
  // libxt_udp asks getaddrinfo(3), which knows a service by any protocol, and takes ranges that run backwards.
  options: portOptions(undefined, true),
  initial: allPorts,
  list: (state) => ` udp${listPorts(state)}`,
  print: printPorts,
  // struct xt_udp
  abi: [
    {
      name: 'udp',
      revision: 0,
      size: 10,
      decode: (view) => decodePorts(view, readFlags(view, 8, 0x03, 'udp')),
      encode: (state, view) => view.setUint8(8, encodePorts(state, view)),
    },
  ],
  semantics: {
    evaluate(state, packet) {
      if (packet.fragmentOffset !== 0) return false;
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'hotdrop';
      return portsMatch(state, packet);
    },
    lower: (state) => [
      { kind: 'transport', minimumBytes: HEADER_BYTES, dropOffsetOne: false, onShort: 'hotdrop' },
      ...lowerPorts(state),
    ],
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no UDP header';
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'the UDP header is cut short';
      return explainPorts(state, packet) ?? 'matches';
    },
  },
});
