/** The conntrack helpers of the kernel and what they are registered for (net/netfilter/nf_conntrack_*.c). Programs can register others. */
import type { Family } from '../../net/index.ts';
import { Protocol } from './protocols.ts';

export interface HelperUse {
  readonly families: readonly Family[];
  readonly protocols: readonly number[];
}

const BOTH: readonly Family[] = ['ipv4', 'ipv6'];
const IPV4: readonly Family[] = ['ipv4'];

export const CONNTRACK_HELPERS: ReadonlyMap<string, HelperUse> = new Map([
  ['amanda', { families: BOTH, protocols: [Protocol.UDP] }],
  ['ftp', { families: BOTH, protocols: [Protocol.TCP] }],
  ['H.245', { families: BOTH, protocols: [Protocol.UDP] }],
  ['irc', { families: IPV4, protocols: [Protocol.TCP] }],
  ['netbios-ns', { families: IPV4, protocols: [Protocol.UDP] }],
  ['pptp', { families: IPV4, protocols: [Protocol.TCP] }],
  ['Q.931', { families: BOTH, protocols: [Protocol.TCP] }],
  ['RAS', { families: BOTH, protocols: [Protocol.UDP] }],
  ['sane', { families: BOTH, protocols: [Protocol.TCP] }],
  ['sip', { families: BOTH, protocols: [Protocol.TCP, Protocol.UDP] }],
  ['snmp', { families: IPV4, protocols: [Protocol.UDP] }],
  ['snmp_trap', { families: IPV4, protocols: [Protocol.UDP] }],
  ['tftp', { families: BOTH, protocols: [Protocol.UDP] }],
]);
