/** Rules in columns: what iptables 1.8.9 prints of the same rules. Random rules are compared with it in test/kernel. */
import { expect, test } from 'vitest';
import type { Family } from '../net/index.ts';
import { type ListingOptions, listTable } from './listing.ts';
import { parseRuleset } from './restore.ts';

const RULES_V4 = `
*filter
:INPUT DROP [123456:7890123456]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [99999:99999999]
:web - [0:0]
[1:60] -A INPUT -i lo -j ACCEPT
[100000:9999499] -A INPUT ! -s 10.0.0.0/8 ! -i eth0 -p tcp -m tcp --dport 80 -j web
[12345678:98765432109876] -A INPUT -s 10.1.0.0/255.255.0.255 -d 192.0.2.1/32 -p udp -f -g web
[0:0] -A INPUT ! -p icmp ! -f -m comment --comment "a note"
[5:400] -A web -m conntrack --ctstate RELATED,ESTABLISHED -m limit --limit 5/min -j LOG --log-prefix "seen: "
[0:0] -A web -o eth+ -j REJECT --reject-with icmp-port-unreachable
COMMIT
`;

const RULES_V6 = `
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
[7:560] -A INPUT -s 2001:db8::/32 -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT
[0:0] -A INPUT ! -d fe80::1/128 -p tcp -m tcp --dport 22 -j DROP
COMMIT
`;

const PLAIN = `
Chain INPUT (policy DROP)
target     prot opt source               destination
ACCEPT     0    --  0.0.0.0/0            0.0.0.0/0
web        6    -- !10.0.0.0/8           0.0.0.0/0            tcp dpt:80
web        17   -f  10.1.0.0/255.255.0.255  192.0.2.1           [goto]
          !1    !f  0.0.0.0/0            0.0.0.0/0            /* a note */

Chain FORWARD (policy ACCEPT)
target     prot opt source               destination

Chain OUTPUT (policy ACCEPT)
target     prot opt source               destination

Chain web (2 references)
target     prot opt source               destination
LOG        0    --  0.0.0.0/0            0.0.0.0/0            ctstate RELATED,ESTABLISHED limit: avg 5/min burst 5 LOG flags 0 level 4 prefix "seen: "
REJECT     0    --  0.0.0.0/0            0.0.0.0/0            reject-with icmp-port-unreachable
`;

const NUMBERED = `
Chain INPUT (policy DROP 123K packets, 7890M bytes)
num   pkts bytes target     prot opt in     out     source               destination
1        1    60 ACCEPT     0    --  lo     *       0.0.0.0/0            0.0.0.0/0
2     100K 9999K web        6    --  !eth0  *      !10.0.0.0/8           0.0.0.0/0            tcp dpt:80
3      12M   99T web        17   -f  *      *       10.1.0.0/255.255.0.255  192.0.2.1           [goto]
4        0     0           !1    !f  *      *       0.0.0.0/0            0.0.0.0/0            /* a note */

Chain FORWARD (policy ACCEPT 0 packets, 0 bytes)
num   pkts bytes target     prot opt in     out     source               destination

Chain OUTPUT (policy ACCEPT 99999 packets, 100M bytes)
num   pkts bytes target     prot opt in     out     source               destination

Chain web (2 references)
num   pkts bytes target     prot opt in     out     source               destination
1        5   400 LOG        0    --  *      *       0.0.0.0/0            0.0.0.0/0            ctstate RELATED,ESTABLISHED limit: avg 5/min burst 5 LOG flags 0 level 4 prefix "seen: "
2        0     0 REJECT     0    --  *      eth+    0.0.0.0/0            0.0.0.0/0            reject-with icmp-port-unreachable
`;

const EXACT = `
Chain INPUT (policy DROP 123456 packets, 7890123456 bytes)
    pkts      bytes target     prot opt in     out     source               destination
       1       60 ACCEPT     0    --  lo     *       0.0.0.0/0            0.0.0.0/0
  100000  9999499 web        6    --  !eth0  *      !10.0.0.0/8           0.0.0.0/0            tcp dpt:80
12345678 98765432109876 web        17   -f  *      *       10.1.0.0/255.255.0.255  192.0.2.1           [goto]
       0        0           !1    !f  *      *       0.0.0.0/0            0.0.0.0/0            /* a note */

Chain FORWARD (policy ACCEPT 0 packets, 0 bytes)
    pkts      bytes target     prot opt in     out     source               destination

Chain OUTPUT (policy ACCEPT 99999 packets, 99999999 bytes)
    pkts      bytes target     prot opt in     out     source               destination

Chain web (2 references)
    pkts      bytes target     prot opt in     out     source               destination
       5      400 LOG        0    --  *      *       0.0.0.0/0            0.0.0.0/0            ctstate RELATED,ESTABLISHED limit: avg 5/min burst 5 LOG flags 0 level 4 prefix "seen: "
       0        0 REJECT     0    --  *      eth+    0.0.0.0/0            0.0.0.0/0            reject-with icmp-port-unreachable
`;

const VERBOSE_V6 = `
Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination
    7   560 ACCEPT     58   --  *      *       2001:db8::/32        ::/0                 ipv6-icmptype 128
    0     0 DROP       6    --  *      *       ::/0                !fe80::1              tcp dpt:22

Chain FORWARD (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination

Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination
`;

/** Without the spaces at the ends of lines, which editors take away. */
function listed(text: string, family: Family, options: ListingOptions): string {
  const { ruleset, diagnostics } = parseRuleset(text.trimStart(), { file: 'rules', family });
  expect(diagnostics).toEqual([]);
  return `\n${listTable(ruleset.tables[0]!, family, options).replaceAll(/ +$/gm, '')}`;
}

test.each([
  { name: '-n', rules: RULES_V4, family: 'ipv4', options: {}, expected: PLAIN },
  {
    name: '-n -v --line-numbers',
    rules: RULES_V4,
    family: 'ipv4',
    options: { verbose: true, numbered: true },
    expected: NUMBERED,
  },
  {
    name: '-n -v -x',
    rules: RULES_V4,
    family: 'ipv4',
    options: { verbose: true, exact: true },
    expected: EXACT,
  },
  { name: '-n -v', rules: RULES_V6, family: 'ipv6', options: { verbose: true }, expected: VERBOSE_V6 },
] as const)('$family, $name', ({ rules, family, options, expected }) => {
  expect(listed(rules, family, options)).toBe(expected);
});
