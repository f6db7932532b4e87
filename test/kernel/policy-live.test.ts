/** Live policies in many namespaces, and under other people's hands. */
import { expect, test } from 'vitest';
import {
  applyPolicy,
  collectGarbage,
  livePolicies,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { deleteNetns } from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import {
  errorOf,
  filterRules,
  kernelObjects,
  policyName,
  remaining,
  request,
} from '../support/live-policy.ts';
import { withNamespaces, withPair } from '../support/netns.ts';

const PORT_RULE = '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT';

describeKernel('live policies', () => {
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
      expect(await refused({ hooks: ['xdp'] })).toBe('HOST_POLICY_USAGE');
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
