/** `-j REJECT` (IPv4): enum ipt_reject_with of uapi/linux/netfilter_ipv4/ipt_REJECT.h. */
import type { TargetExtension } from '../../extension.ts';
import { defineReject } from '../reject.ts';

export const reject: TargetExtension = defineReject(
  'ipv4',
  [
    { name: 'icmp-net-unreachable', alias: 'net-unreach', number: 0 },
    { name: 'icmp-host-unreachable', alias: 'host-unreach', number: 1 },
    { name: 'icmp-proto-unreachable', alias: 'proto-unreach', number: 2 },
    { name: 'icmp-port-unreachable', alias: 'port-unreach', number: 3 },
    { name: 'icmp-net-prohibited', alias: 'net-prohib', number: 5 },
    { name: 'icmp-host-prohibited', alias: 'host-prohib', number: 6 },
    { name: 'tcp-reset', alias: 'tcp-rst', number: 7 },
    { name: 'icmp-admin-prohibited', alias: 'admin-prohib', number: 8 },
  ],
  'icmp-port-unreachable',
);
