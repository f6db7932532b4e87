/** `-j REJECT` (IPv6): enum ip6t_reject_with of uapi/linux/netfilter_ipv6/ip6t_REJECT.h. */
import type { TargetExtension } from '../../extension.ts';
import { defineReject } from '../reject.ts';

export const reject6: TargetExtension = defineReject(
  'ipv6',
  [
    { name: 'icmp6-no-route', alias: 'no-route', number: 0 },
    { name: 'icmp6-adm-prohibited', alias: 'adm-prohibited', number: 1 },
    { name: 'icmp6-addr-unreachable', alias: 'addr-unreach', number: 3 },
    { name: 'icmp6-port-unreachable', alias: 'port-unreach', number: 4 },
    { name: 'tcp-reset', alias: 'tcp-reset', number: 6 },
    { name: 'icmp6-policy-fail', alias: 'policy-fail', number: 7 },
    { name: 'icmp6-reject-route', alias: 'reject-route', number: 8 },
  ],
  'icmp6-port-unreachable',
);
