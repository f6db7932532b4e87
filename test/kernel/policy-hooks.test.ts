/** Live policies under traffic: every hook, both ways, TCP, UDP and ICMP of both families, and replacements under load. */
import { expect, test } from 'vitest';
import type { HookName } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies, requireLive, zeroCounters } from '../../src/host/index.ts';
import { listNftTables } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import type { Ruleset } from '../../src/rules/index.ts';
import { ScratchCgroup } from '../support/cgroup.ts';
import { describeKernel } from '../support/kernel.ts';
import {
  errorOf,
  filterRules,
  kernelObjects,
  parsed,
  policyName,
  remaining,
} from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { snmp, Traffic } from '../support/policy-traffic.ts';

const REPLACEMENTS = process.env.SLUICE_SOAK === '1' ? 1000 : 100;
const PACKETS_A_SECOND = 10_000;
/** A wait for what must not come, after something that was sent later has come. */
const NOTHING_MS = 20;
/** Longer than acknowledgements take on a busy machine. */
const RTO_MS = 60_000;

type Way = 'in' | 'out';
const HOOKS: readonly (readonly [HookName, Way])[] = [
  ['xdp', 'in'],
  ['tcx-ingress', 'in'],
  ['tcx-egress', 'out'],
  ['netfilter', 'in'],
  ['netfilter', 'out'],
  ['cgroup-ingress', 'in'],
  ['cgroup-egress', 'out'],
];

/** Accepts UDP to `port` and 5999, TCP to `port` + 1000, and echoes if wanted; drops the rest of that way. */
function rules(way: Way, port: number, echo: boolean, family: Family): Ruleset {
  const chain = way === 'in' ? 'INPUT' : 'OUTPUT';
  const icmp = family === 'ipv4' ? 'icmp -m icmp --icmp-type' : 'ipv6-icmp -m icmp6 --icmpv6-type';
  const type = { ipv4: { in: 0, out: 8 }, ipv6: { in: 129, out: 128 } }[family][way];
  return filterRules(
    [
      `-A ${chain} -p udp -m udp --dport ${port} -j ACCEPT`,
      `-A ${chain} -p ${icmp} ${type} -j ${echo ? 'ACCEPT' : 'DROP'}`,
      `-A ${chain} -p tcp -m tcp --dport ${port + 1000} -j ACCEPT`,
      `-A ${chain} -p udp -m udp --dport 5999 -j ACCEPT`,
      `-A ${chain} -j DROP`,
      ...(way === 'in' ? [] : ['-A INPUT -j ACCEPT']),
    ],
    family,
  );
}

describeKernel('live policies at every hook', () => {
  test.each(HOOKS)('%s, packets that go %s: TCP, UDP and ICMP of both families', (hook, way) =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const cgroup = hook.startsWith('cgroup') ? new ScratchCgroup() : undefined;
      // The sockets of b are in the cgroup; others in it would be cut off.
      const inside = <T>(host: Host, use: () => T): T =>
        cgroup === undefined || host !== b ? use() : cgroup.run(use);
      b.sysctl('net/ipv4/ping_group_range', '0 0');
      const apply = (port: number, echo: boolean) =>
        applyPolicy({
          policy,
          hooks: [hook],
          namespaces: [b.netnsName],
          devices: hook === 'xdp' || hook.startsWith('tcx') ? ['a'] : [],
          rulesets: [rules(way, port, echo, 'ipv4'), rules(way, port, echo, 'ipv6')],
          ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
        });
      const counts = () =>
        requireLive({ policy }).rulesets.map(({ tables }) =>
          tables[0]!.chains
            .find(({ name }) => name === (way === 'in' ? 'INPUT' : 'OUTPUT'))!
            .rules.map(({ counters }) => Number(counters.packets)),
        );
      const [from, to] = way === 'in' ? [a, b] : [b, a];
      const udp = inside(to, () => [5000, 5001, 5999].map((port) => to.udp(port)));
      const tcp = inside(to, () => [6000, 6001].map((port) => to.listen(port)));
      const sender = inside(from, () => from.udp());

      /** Sends everything once, checks what passes, and what each rule counted. */
      const check = (open: number, echo: boolean, passes: boolean): void => {
        for (const family of ['ipv4', 'ipv6'] as const) {
          const address = to[family];
          for (let turn = 0; turn < 10; turn++) sender.send(address, 5000 + open, 'x');
          for (let turn = 0; turn < 7; turn++) errorOf(() => sender.send(address, 5001 - open, 'x'));
          sender.send(address, 5999, 'x');
          expect(udp[2]!.receive(LONG_MS)).toBeDefined();
          for (let turn = 0; turn < 10; turn++) expect(udp[open]!.receive(LONG_MS)).toBeDefined();
          expect(udp[1 - open]!.receive(passes ? LONG_MS : 0) === undefined).toBe(!passes);
          const connect = (which: number): string =>
            errorOf(() =>
              inside(from, () => from.connect(address, tcp[which]!.port, which === open ? LONG_MS : 100)),
            );
          expect(connect(open)).toBe('connected');
          expect(connect(1 - open)).toBe(passes ? 'connected' : 'ETIMEDOUT');
          const ping = inside(b, () => b.ping(a[family]));
          errorOf(() => ping.send());
          expect(ping.receive(echo ? LONG_MS : NOTHING_MS)).toBe(echo);
        }
      };
      try {
        await apply(5000, true);
        check(0, true, false);
        const first = counts();
        for (const [own, echo, stream, sentinel, dropped] of first) {
          expect([own, echo, sentinel]).toEqual([10, 1, 1]);
          expect(stream).toBeGreaterThan(1);
          // The SYN that was given up, perhaps twice.
          expect(dropped! - 7).toBeGreaterThan(0);
        }
        await apply(5001, false);
        const kept = first.map(([, , , sentinel, dropped]) => [0, 0, 0, sentinel, dropped]);
        expect(counts().map((all) => all.slice(0, 4))).toEqual(kept.map((all) => all.slice(0, 4)));
        check(1, false, false);
        for (const [own, echo, , sentinel] of counts()) expect([own, echo, sentinel]).toEqual([10, 1, 2]);
        await zeroCounters({ policy });
        sender.send(to.ipv4, 5001, 'x');
        expect(udp[1]!.receive(LONG_MS)).toBeDefined();
        expect(counts().map(([own, echo]) => [own, echo])).toEqual([
          [1, 0],
          [0, 0],
        ]);
        const made = kernelObjects(policy);
        expect(made.programs.length).toBeGreaterThan(1);
        expect(made.links.length).toBeGreaterThan(0);
        await removePolicies({ policy });
        expect(await remaining(made)).toEqual([]);
        expect(b.run(listNftTables)).toEqual([]);
        check(0, true, true);
      } finally {
        await removePolicies({ policy }).catch(() => []);
        cgroup?.close();
      }
    }),
  );

  /**
   * Rules that only pass a packet whose every hook ran the same generation: each hook moves the mark one step on, by
   * values of the generation's own. Port 5000 is dropped by one generation at the first hook, by the other at the last.
   */
  const generation = (number: 1 | 2): Ruleset => {
    const mark = (pass: number): string => `0x${number}${pass}`;
    const steps = (chain: string): string[] => [
      `-A ${chain} -p udp -m mark --mark ${mark(1)} -j MARK --set-mark ${mark(2)}`,
      `-A ${chain} -p udp -m mark --mark 0x0 -j MARK --set-mark ${mark(1)}`,
    ];
    const checks = (chain: string): string[] => [
      `-A ${chain} -p udp -m udp --dport 5001`,
      `-A ${chain} -p udp -m udp --dport 5000 -m mark --mark ${mark(number)} -j DROP`,
      `-A ${chain} -p udp -m mark --mark ${mark(1)} -j ACCEPT`,
      `-A ${chain} -p udp -m mark --mark ${mark(2)} -j ACCEPT`,
      `-A ${chain} -p udp -j DROP`,
      `-A ${chain} -j ACCEPT`,
    ];
    const text = [
      '*mangle',
      ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((name) => `:${name} ACCEPT [0:0]`),
      ...steps('PREROUTING'),
      ...steps('OUTPUT'),
      'COMMIT',
      '*filter',
      ...['INPUT', 'FORWARD', 'OUTPUT'].map((name) => `:${name} ACCEPT [0:0]`),
      ...checks('INPUT'),
      ...checks('OUTPUT'),
      'COMMIT',
      '',
    ];
    return parsed(text.join('\n'));
  };

  test(`${REPLACEMENTS} replacements under load: no packet lost, let through, miscounted, or of two generations`, () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const apply = (number: 1 | 2) =>
        applyPolicy({
          policy,
          hooks: ['netfilter', 'tcx-ingress', 'tcx-egress'],
          namespaces: [b.netnsName],
          devices: ['a'],
          rulesets: [generation(number)],
        });
      const running: Traffic[] = [];
      for (const host of [a, b]) {
        // On a busy machine an acknowledgement may be late; only what is lost shall be sent again.
        host.sysctl('net/ipv4/tcp_early_retrans', 0);
        host.sysctl('net/ipv4/tcp_rto_min_us', RTO_MS * 1000);
      }
      try {
        await apply(1);
        running.push(await Traffic.start(b, a.ipv4, PACKETS_A_SECOND / 2, 'serve'));
        running.push(await Traffic.start(a, b.ipv4, PACKETS_A_SECOND, 'connect'));
        for (let turn = 1; turn <= REPLACEMENTS; turn++) {
          await apply(turn % 2 === 0 ? 1 : 2);
          await new Promise((resolve) => setImmediate(resolve));
        }
        const inward = await running[1]!.end();
        const outward = await running[0]!.end();
        expect(inward.sent[1]).toBeGreaterThan(1000);
        expect(outward.sent[1]).toBeGreaterThan(1000);
        expect(inward.lines).toBeGreaterThan(REPLACEMENTS);
        expect([snmp(b, 'Udp', 'NoPorts'), snmp(a, 'Udp', 'NoPorts')]).toEqual([
          inward.sent[1],
          outward.sent[1],
        ]);
        // A segment that is lost is sent again.
        expect([snmp(a, 'Tcp', 'RetransSegs'), snmp(b, 'Tcp', 'RetransSegs')]).toEqual([0, 0]);
        const filter = requireLive({ policy }).rulesets[0]!.tables.find(({ name }) => name === 'filter')!;
        const counted = (chain: string) =>
          filter.chains.find(({ name }) => name === chain)!.rules[0]!.counters;
        // Every packet met both hooks of its way.
        expect(counted('INPUT')).toEqual(twice(inward.sent[1]));
        expect(counted('OUTPUT')).toEqual(twice(outward.sent[1]));
      } finally {
        for (const traffic of running) traffic.kill();
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});

/** Twice that many datagrams of 32 bytes in IPv4. */
function twice(packets: number): { packets: bigint; bytes: bigint } {
  return { packets: BigInt(2 * packets), bytes: BigInt(2 * packets * 60) };
}
