/** Live policies under traffic, at all hooks, in many namespaces, and under other people's hands. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { HookName } from '../../src/compile/index.ts';
import {
  applyPolicy,
  collectGarbage,
  livePolicies,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { deleteNetns, listNftTables } from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import {
  errorOf,
  filterRules,
  kernelObjects,
  policyName,
  remaining,
  request,
} from '../support/live-policy.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';

const REPLACEMENTS = process.env.SLUICE_SOAK === '1' ? 1000 : 60;
const PACKETS_A_SECOND = 10_000;

/** Datagrams to ports 5000 and 5001 in turn until its input ends; prints how many went to each. */
const SENDER = `
  const socket = require('node:dgram').createSocket('udp4');
  const [host, rate] = process.argv.slice(1);
  const sent = [0, 0];
  let running = true;
  process.stdin.on('end', () => (running = false)).resume();
  const started = performance.now();
  const payload = Buffer.alloc(32);
  (function tick() {
    const due = Math.min(((performance.now() - started) / 1000) * rate, sent[0] + sent[1] + 400);
    while (sent[0] + sent[1] < due) {
      const which = (sent[0] + sent[1]) % 2;
      socket.send(payload, 5000 + which, host);
      sent[which]++;
    }
    if (running) setImmediate(tick);
    else setTimeout(() => { process.stdout.write(JSON.stringify(sent)); socket.close(); }, 100);
  })();
`;

/** Datagrams that came as far as UDP and found no socket. */
function arrived(host: Host): number {
  const text = host.run(() => readFileSync('/proc/thread-self/net/snmp', 'utf8'));
  const [names = '', values = ''] = text.split('\n').filter((line) => line.startsWith('Udp:'));
  return Number(values.split(' ')[names.split(' ').indexOf('NoPorts')]);
}

const PORT_RULE = '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT';

describeKernel('live policies', () => {
  test('replacements under traffic lose nothing, let nothing through and miscount nothing', () =>
    withPair(async ({ a, b }) => {
      const wanted = request(b, [PORT_RULE]);
      const { policy } = wanted;
      try {
        await applyPolicy(wanted);
        const sender = spawn(
          'nsenter',
          [
            `--net=/run/netns/${a.netnsName}`,
            process.execPath,
            '-e',
            SENDER,
            b.ipv4,
            String(PACKETS_A_SECOND),
          ],
          { stdio: ['pipe', 'pipe', 'inherit'] },
        );
        let printed = '';
        sender.stdout.on('data', (chunk) => {
          printed += String(chunk);
        });
        const ended = new Promise((resolve) => sender.once('exit', resolve));
        for (let turn = 0; turn < REPLACEMENTS; turn++) {
          const others = Array.from(
            { length: turn % 5 },
            (_, port) => `-A INPUT -p tcp -m tcp --dport ${port + 1} -j DROP`,
          );
          const lines = turn % 2 === 0 ? [...others, PORT_RULE] : [PORT_RULE, ...others];
          await applyPolicy({ ...wanted, rulesets: [filterRules(lines)] });
          await new Promise((resolve) => setImmediate(resolve));
        }
        sender.stdin.end();
        await ended;
        const [accepted, dropped] = JSON.parse(printed) as [number, number];
        expect(accepted + dropped).toBeGreaterThan(1000);
        expect(arrived(b)).toBe(accepted);
        const input = requireLive({ policy }).rulesets[0]!.tables[0]!.chains.find(
          ({ name }) => name === 'INPUT',
        )!;
        const own = input.rules.find(({ counters }) => counters.packets > 0n)!;
        expect(own.counters).toEqual({ packets: BigInt(accepted), bytes: BigInt(accepted * 60) });
        expect(input.counters).toEqual({ packets: BigInt(dropped), bytes: BigInt(dropped * 60) });
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  const DEVICE_HOOKS: readonly (readonly [HookName, 'in' | 'out'])[] = [
    ['xdp', 'in'],
    ['tcx-ingress', 'in'],
    ['tcx-egress', 'out'],
    ['netfilter', 'in'],
    ['netfilter', 'out'],
  ];
  test.each(DEVICE_HOOKS)('%s, packets that go %s, both families', (hook, way) =>
    withPair(async ({ a, b }) => {
      const chain = way === 'in' ? 'INPUT' : 'OUTPUT';
      const lines = [`-A ${chain} -p udp -m udp --dport 5000 -j ACCEPT`, `-A ${chain} -p udp -j DROP`];
      const more = ['-A INPUT -j ACCEPT'];
      const policy = policyName();
      try {
        await applyPolicy({
          policy,
          hooks: [hook],
          namespaces: [b.netnsName],
          devices: hook === 'netfilter' ? [] : ['a'],
          rulesets: [filterRules([...lines, ...more]), filterRules([...lines, ...more], 'ipv6')],
        });
        const [from, to] = way === 'in' ? [a, b] : [b, a];
        const [open, shut] = [to.udp(5000), to.udp(5001)];
        const sender = from.udp();
        for (const address of [to.ipv4, to.ipv6]) {
          for (let turn = 0; turn < 10; turn++) sender.send(address, 5000, 'x');
          for (let turn = 0; turn < 7; turn++) errorOf(() => sender.send(address, 5001, 'x'));
        }
        let received = 0;
        while (open.receive(50) !== undefined) received++;
        expect(received).toBe(20);
        expect(shut.receive(20)).toBeUndefined();
        const counts = requireLive({ policy }).rulesets.map(({ tables }) =>
          tables[0]!.chains
            .find(({ name }) => name === chain)!
            .rules.slice(0, 2)
            .map(({ counters }) => counters.packets),
        );
        expect(counts).toEqual([
          [10n, 7n],
          [10n, 7n],
        ]);
        const made = kernelObjects(policy);
        expect(made.programs.length).toBeGreaterThan(1);
        await removePolicies({ policy });
        expect(await remaining(made)).toEqual([]);
        expect(b.run(listNftTables)).toEqual([]);
        sender.send(to.ipv4, 5001, 'y');
        expect(shut.receiveText()).toBe('y');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }),
  );

  test('ten namespaces share programs and count apart', () =>
    withNamespaces(['n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n8', 'n9'], async (hosts) => {
      const all = Object.values(hosts);
      const policy = policyName();
      const wanted = {
        policy,
        hooks: ['netfilter'],
        rulesets: [filterRules([PORT_RULE, '-A INPUT -i lo -j ACCEPT'])],
      } as const;
      try {
        await applyPolicy({ ...wanted, namespaces: [all[0]!.netnsName] });
        const one = kernelObjects(policy).programs.length;
        const report = await applyPolicy({ ...wanted, namespaces: all.map(({ netnsName }) => netnsName) });
        expect(report.programs).toEqual({ loaded: 0, shared: 3 });
        expect(kernelObjects(policy).programs.length).toBe(one);
        for (const [index, host] of all.entries()) {
          const sender = host.udp();
          for (let turn = 0; turn <= index; turn++) sender.send('127.0.0.1', 5000, 'x');
        }
        const counts = livePolicies({ policy }).map(({ netns, rulesets }) => [
          all.findIndex(({ cookie }) => cookie === netns.cookie),
          Number(rulesets[0]!.tables[0]!.chains[0]!.rules[0]!.counters.packets),
        ]);
        expect(counts.sort((x, y) => x[0]! - y[0]!)).toEqual(all.map((_, index) => [index, index + 1]));
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('what others flush is noticed and put back; meanwhile nothing that is to be refused passes', () =>
    withPair(async ({ a, b }) => {
      const wanted = request(b, [
        '-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT',
        '-A INPUT -p tcp -j REJECT --reject-with tcp-reset',
      ]);
      const { policy } = wanted;
      try {
        await applyPolicy(wanted);
        const { port } = b.listen(0, b.ipv4);
        expect(errorOf(() => a.connect(b.ipv4, port))).toBe('ECONNREFUSED');
        b.exec('nft', ['flush', 'ruleset']);
        b.exec('iptables-legacy', ['-F']);
        expect(errorOf(() => a.connect(b.ipv4, port, 200))).toBe('ETIMEDOUT');
        expect(requireLive({ policy }).problems).toHaveLength(2);
        await collectGarbage();
        expect(requireLive({ policy }).problems).toEqual([]);
        expect(errorOf(() => a.connect(b.ipv4, port))).toBe('ECONNREFUSED');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('a namespace that is deleted under its policy takes nothing along that stays', () =>
    withPair(async ({ b }) => {
      const wanted = request(b, [PORT_RULE]);
      await applyPolicy(wanted);
      const made = kernelObjects(wanted.policy);
      b.close();
      deleteNetns(b.netnsName);
      expect(livePolicies({ policy: wanted.policy })[0]?.problems).toHaveLength(1);
      await collectGarbage();
      expect(livePolicies({ policy: wanted.policy })).toEqual([]);
      expect(await remaining(made)).toEqual([]);
    }));

  test('refusals change nothing: rules, devices, names, taken priorities', () =>
    withPair(async ({ b }) => {
      const wanted = request(b, [PORT_RULE]);
      const refused = (more: object) =>
        applyPolicy({ ...wanted, ...more }).then(
          () => 'applied',
          (error: { code: string }) => error.code,
        );
      expect(await refused({ hooks: ['xdp'] })).toBe('HOST_POLICY_TARGET');
      expect(await refused({ hooks: ['xdp'], devices: ['nosuch'] })).toBe('HOST_POLICY_TARGET');
      expect(await refused({ policy: '../x' })).toBe('HOST_POLICY_NAME');
      expect(await refused({ namespaces: ['slc-none'] })).toBe('NETNS_NOT_FOUND');
      const rules = filterRules(['-A INPUT -p tcp -m conntrack --ctstate NEW -j ACCEPT']);
      expect(await refused({ hooks: ['tcx-ingress'], devices: ['a'], rulesets: [rules] })).toBe(
        'COMPILE_REFUSED',
      );
      const other = { ...wanted, policy: policyName(), order: 3 };
      try {
        await applyPolicy(other);
        expect(await refused({ order: 3 })).toBe('LINK_PRIORITY_TAKEN');
        expect(livePolicies({ policy: wanted.policy })).toEqual([]);
        const both = await Promise.all([
          applyPolicy(other),
          applyPolicy({ ...other, rulesets: [filterRules([])] }),
        ]);
        expect(new Set(both.map(({ namespaces }) => namespaces[0]!.generation)).size).toBe(2);
        expect(requireLive({ policy: other.policy }).problems).toEqual([]);
      } finally {
        await removePolicies({ policy: other.policy }).catch(() => []);
      }
    }));
});
