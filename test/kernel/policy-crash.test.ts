/** `apply` ended by SIGKILL before each of its steps: the old policy or the new, never a mixture, and nothing is left over. */
import { expect, test } from 'vitest';
import {
  applyPolicy,
  collectGarbage,
  confirmPolicy,
  livePolicies,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, kernelObjects, parsed, policyName, remaining } from '../support/live-policy.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { PolicyChildren } from '../support/policy-child.ts';

const SENTINEL = '-A INPUT -p udp -m udp --dport 5999 -j ACCEPT';
const OLD = filterText([
  SENTINEL,
  '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT',
  '-A OUTPUT -p udp -m udp --dport 6001 -j DROP',
]);
const NEW = filterText([
  SENTINEL,
  '-A INPUT -p udp -m udp --dport 5001 -j ACCEPT',
  '-A OUTPUT -p udp -m udp --dport 6000 -j DROP',
]);

/** What passes now: ports in, ports out. Packets arrive in order, and all policies let the last one through. */
function probe(from: Host, to: Host, address: string): string {
  const client = from.keep(from.run(() => from.udp()));
  const servers = [5000, 5001].map((port) => to.udp(port));
  const last = to.udp(5999);
  for (const port of [5000, 5001, 5999]) client.send(address, port, 'x');
  expect(last.receive(LONG_MS)).toBeDefined();
  const into = servers.filter((socket) => socket.receive(0) !== undefined).map(({ port }) => port);
  const out = [6000, 6001].filter((port) => {
    try {
      last.send(from.ipv4 || address, port, 'x');
      return true;
    } catch {
      return false;
    }
  });
  for (const socket of [client, last, ...servers]) socket.close();
  return `in ${into.join(',')} out ${out.join(',')}`;
}
const OLD_PASSES = 'in 5000 out 6000';
const NEW_PASSES = 'in 5001 out 6001';
const ALL_PASS = 'in 5000,5001 out 6000,6001';

describeKernel('apply that is killed', () => {
  test('a replacement', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const target = { policy, hooks: ['netfilter'], namespaces: [b.netnsName] } as const;
      using children = new PolicyChildren();
      try {
        await applyPolicy({ ...target, rulesets: [parsed(OLD)] });
        const links = requireLive({ policy }).links.length;
        const programs = kernelObjects(policy).programs.length;
        const seen: string[] = [];
        for (let step = 1; ; step++) {
          const rules = [{ family: 'ipv4', text: NEW }] as const;
          const end = await children.run({ request: target, rules, killAtStep: step });
          const passes = probe(a, b, b.ipv4);
          expect([OLD_PASSES, NEW_PASSES], end).toContain(passes);
          await collectGarbage();
          expect(probe(a, b, b.ipv4), end).toBe(passes);
          const live = requireLive({ policy });
          expect(live.problems, end).toEqual([]);
          expect(live.links.length, end).toBe(links);
          expect(kernelObjects(policy).programs.length, end).toBe(programs);
          seen.push(`${end}: ${passes === NEW_PASSES ? 'new' : 'old'}`);
          if (end === 'done') break;
          if (passes === NEW_PASSES) await applyPolicy({ ...target, rulesets: [parsed(OLD)] });
        }
        expect(seen.length).toBeGreaterThan(10);
        expect(seen).toContain('killed before commit: old');
        expect(seen).toContain('killed before committed: new');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('a replacement in three namespaces: all have the old policy, or all the new', () =>
    withNamespaces(['p', 'q', 'r'], async (hosts) => {
      const all = Object.values(hosts);
      const policy = policyName();
      const request = {
        policy,
        hooks: ['netfilter'],
        namespaces: all.map(({ netnsName }) => netnsName),
      } as const;
      const passing = (): string[] => all.map((host) => probe(host, host, '127.0.0.1'));
      using children = new PolicyChildren();
      try {
        await applyPolicy({ ...request, rulesets: [parsed(OLD)] });
        const seen: string[] = [];
        // The steps before load programs and write documents: those of one namespace are looked at above.
        for (let step = 14; ; step++) {
          const rules = [{ family: 'ipv4', text: NEW }] as const;
          const end = await children.run({ request, rules, killAtStep: step });
          const passes = passing();
          expect([OLD_PASSES, NEW_PASSES], end).toContain(passes[0]);
          expect(new Set(passes).size, `${end}: ${passes.join('; ')}`).toBe(1);
          await collectGarbage();
          expect(passing(), end).toEqual(passes);
          expect(livePolicies({ policy }).flatMap(({ problems }) => problems)).toEqual([]);
          seen.push(`${end}: ${passes[0] === NEW_PASSES ? 'new' : 'old'}`);
          if (end === 'done') break;
          if (passes[0] === NEW_PASSES) await applyPolicy({ ...request, rulesets: [parsed(OLD)] });
        }
        for (const { cookie } of all) expect(seen).toContain(`killed before prepare ${cookie}: old`);
        expect(seen).toContain('killed before commit: old');
        expect(seen).toContain('killed before committed: new');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('the first policy of a namespace', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const request = { policy, hooks: ['netfilter'], namespaces: [b.netnsName] } as const;
      const made = { maps: [] as number[], programs: [] as number[], links: [] as number[] };
      const rules = [{ family: 'ipv4', text: NEW }] as const;
      using children = new PolicyChildren();
      try {
        for (let step = 2; step < 60; step += 3) {
          const end = await children.run({ request, rules, killAtStep: step });
          const passes = probe(a, b, b.ipv4);
          expect([ALL_PASS, NEW_PASSES], end).toContain(passes);
          const { maps, programs, links } = kernelObjects(policy);
          made.maps.push(...maps);
          made.programs.push(...programs);
          made.links.push(...links);
          await collectGarbage();
          expect(probe(a, b, b.ipv4), end).toBe(passes);
          if (passes === NEW_PASSES) {
            expect(requireLive({ policy }).problems, end).toEqual([]);
            await removePolicies({ policy });
          }
          expect(livePolicies({ policy })).toEqual([]);
          if (end === 'done') break;
        }
        expect(made.programs.length).toBeGreaterThan(0);
        expect(made.links.length).toBeGreaterThan(0);
        expect(await remaining(made)).toEqual([]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('the way back needs no process, in two namespaces at once', () =>
    withNamespaces(['p', 'q'], async (hosts) => {
      const all = Object.values(hosts);
      const policy = policyName();
      const target = {
        policy,
        hooks: ['netfilter'],
        namespaces: all.map(({ netnsName }) => netnsName),
      } as const;
      const passing = (): string[] => all.map((host) => probe(host, host, '127.0.0.1'));
      using children = new PolicyChildren();
      try {
        await applyPolicy({ ...target, rulesets: [parsed(OLD)] });
        await children.run({
          request: { ...target, confirmSeconds: 2 },
          rules: [{ family: 'ipv4', text: NEW }],
          killAtStep: 1_000,
        });
        const [{ confirmWithinMs = 0 } = {}] = livePolicies({ policy });
        expect(passing()).toEqual([NEW_PASSES, NEW_PASSES]);
        await new Promise((resolve) => setTimeout(resolve, confirmWithinMs + 100));
        expect(passing()).toEqual([OLD_PASSES, OLD_PASSES]);
        await expect(confirmPolicy({ policy })).rejects.toMatchObject({ code: 'HOST_POLICY_CONFIRM' });
        expect(passing()).toEqual([OLD_PASSES, OLD_PASSES]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
