/** Policies in namespaces of their own: applied, replaced, confirmed, taken away. */
import { expect, test } from 'vitest';
import {
  applyPolicy,
  collectGarbage,
  confirmPolicy,
  livePolicies,
  removePolicies,
  requireLive,
  WatchedPolicy,
  zeroCounters,
} from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { errorOf, filterRules, request } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';

describeKernel('policies', () => {
  test('apply, replace with counters kept, zero, remove', () =>
    withPair(async ({ a, b }) => {
      const wanted = request(b, [
        '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT',
        '-A INPUT -p tcp -j REJECT --reject-with tcp-reset',
      ]);
      const { policy } = wanted;
      try {
        const report = await applyPolicy(wanted);
        expect(report.programs.loaded).toBe(3);
        const [open, closed] = [b.udp(5000), b.udp(5001)];
        a.udp().send(b.ipv4, 5000, 'in');
        a.udp().send(b.ipv4, 5001, 'out');
        expect(open.receiveText()).toBe('in');
        expect(closed.receiveText(100)).toBeUndefined();
        const listener = b.listen(0, b.ipv4);
        expect(errorOf(() => a.connect(b.ipv4, listener.port, 1000))).toBe('ECONNREFUSED');
        const counts = () =>
          requireLive({ policy }).rulesets[0]!.tables[0]!.chains[0]!.rules.map(
            ({ counters }) => counters.packets,
          );
        expect(counts()).toEqual([1n, 1n]);
        expect(requireLive({ policy }).problems).toEqual([]);

        const replaced = await applyPolicy({
          ...wanted,
          rulesets: [
            filterRules([
              '-A INPUT -p udp -m udp --dport 5001 -j ACCEPT',
              '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT',
            ]),
          ],
        });
        expect(replaced.linksMade).toBe(0);
        a.udp().send(b.ipv4, 5001, 'now');
        expect(closed.receiveText()).toBe('now');
        expect(counts()).toEqual([1n, 1n]);
        await zeroCounters({ policy });
        expect(counts()).toEqual([0n, 0n]);
        await removePolicies({ policy });
        expect(livePolicies({ policy })).toEqual([]);
        expect(errorOf(() => a.connect(b.ipv4, listener.port, 1000))).toBe('connected');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('without a confirmation the policy before runs again', () =>
    withPair(async ({ a, b }) => {
      const wanted = request(b, ['-A INPUT -p udp -j ACCEPT'], { confirmSeconds: 1 });
      const { policy } = wanted;
      const server = b.udp(5000);
      const reaches = (): boolean => {
        a.udp().send(b.ipv4, 5000, 'x');
        return server.receive(100) !== undefined;
      };
      try {
        await applyPolicy({ ...wanted, rulesets: [filterRules([])] });
        expect(reaches()).toBe(false);
        await new Promise((resolve) => setTimeout(resolve, 1100));
        // Nothing was there before: everything passes again.
        expect(reaches()).toBe(true);
        await applyPolicy(wanted);
        await confirmPolicy({ policy });
        await applyPolicy({ ...wanted, rulesets: [filterRules([])] });
        expect(reaches()).toBe(false);
        await new Promise((resolve) => setTimeout(resolve, 1100));
        expect(reaches()).toBe(true);
        await collectGarbage();
        expect(requireLive({ policy }).rulesets[0]!.tables[0]!.chains[0]!.rules).toHaveLength(1);
        expect(reaches()).toBe(true);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('tables of few rules, which a command that was killed has left, become code by the next command and by apply', () =>
    withPair(async ({ a, b }) => {
      const rule = '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT';
      const wanted = request(b, [rule]);
      const { policy } = wanted;
      const more = { ...wanted, rulesets: [filterRules([rule, '-A INPUT -s 10.9.9.9/32'])] };
      const areCode = (): boolean => requireLive({ policy }).document.coded.length > 0;
      const counts = () =>
        requireLive({ policy }).rulesets[0]!.tables[0]!.chains[0]!.rules.map(
          ({ counters }) => counters.packets,
        );
      try {
        await applyPolicy({ ...wanted, strategy: 'classifier' });
        const server = b.udp(5000);
        a.udp().send(b.ipv4, 5000, 'in');
        expect(server.receiveText()).toBe('in');
        const session = new WatchedPolicy({ policy, cookie: requireLive({ policy }).netns.cookie });
        try {
          await session.settle();
          expect(areCode()).toBe(false);
          expect((await session.apply({ ...more, confirmSeconds: 600 })).editedRules).toBe(1);
          await session.settle();
          expect(requireLive({ policy }).confirmWithinMs).toBeDefined();
          expect(areCode()).toBe(false);
          await confirmPolicy({ policy });
          expect((await session.apply(wanted)).editedRules).toBe(1);
          await session.settle();
          expect(areCode()).toBe(true);
          expect(requireLive({ policy }).confirmWithinMs).toBeUndefined();
        } finally {
          session.close();
        }
        expect(counts()).toEqual([1n]);
        await applyPolicy({ ...wanted, strategy: 'classifier' });
        expect(areCode()).toBe(false);
        const report = await applyPolicy(more);
        expect(report.notEdited).toMatch(/tables for the many changes of a command/);
        expect(areCode()).toBe(true);
        expect(counts()).toEqual([1n, 0n]);
        // So do the tables of many rules, when few come in their place.
        const many = Array.from({ length: 201 }, (_, index) => `-A INPUT -s 10.9.8.${index}/32`);
        await applyPolicy({ ...wanted, rulesets: [filterRules([rule, ...many])] });
        expect((await applyPolicy(wanted)).notEdited).toBe('up to 200 rules are code');
        expect(counts()).toEqual([1n]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
