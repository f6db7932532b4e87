/** `apply` ended by SIGKILL before each of its steps: the old policy or the new, never a mixture, and nothing is left over. */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import {
  type ApplyRequest,
  applyPolicy,
  collectGarbage,
  confirmPolicy,
  livePolicies,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, kernelObjects, parsed, policyName, remaining } from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

interface ChildTask {
  readonly request: Omit<ApplyRequest, 'rulesets'>;
  readonly rules: readonly { readonly family: 'ipv4'; readonly text: string }[];
  readonly killAtStep: number;
}

/** Runs the child; the step before which it ended, or "done". */
function applyInChild(task: ChildTask): string {
  const child = join(root, 'test', 'support', 'policy-child.mjs');
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, [child, JSON.stringify(task)], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect(status === 0 || signal === 'SIGKILL', stderr).toBe(true);
  return status === 0 ? 'done' : `killed before ${stdout}`;
}

const OLD = filterText([
  '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT',
  '-A OUTPUT -p udp -m udp --dport 6001 -j DROP',
]);
const NEW = filterText([
  '-A INPUT -p udp -m udp --dport 5001 -j ACCEPT',
  '-A OUTPUT -p udp -m udp --dport 6000 -j DROP',
]);

/** What passes now: ports in, ports out. */
function probe(a: Host, b: Host): string {
  const client = a.keep(a.run(() => a.udp()));
  const [in0, in1] = [b.udp(5000), b.udp(5001)];
  client.send(b.ipv4, 5000, 'x');
  client.send(b.ipv4, 5001, 'x');
  const into = [in0, in1].filter((socket) => socket.receive(40) !== undefined).map(({ port }) => port);
  const out = [6000, 6001].filter((port) => {
    try {
      in0.send(a.ipv4, port, 'x');
      return true;
    } catch {
      return false;
    }
  });
  for (const socket of [client, in0, in1]) socket.close();
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
      try {
        await applyPolicy({ ...target, rulesets: [parsed(OLD)] });
        const links = requireLive({ policy }).links.length;
        const programs = kernelObjects(policy).programs.length;
        const seen: string[] = [];
        for (let step = 1; ; step++) {
          const end = applyInChild({
            request: target,
            rules: [{ family: 'ipv4', text: NEW }],
            killAtStep: step,
          });
          const passes = probe(a, b);
          expect([OLD_PASSES, NEW_PASSES], end).toContain(passes);
          await collectGarbage();
          expect(probe(a, b), end).toBe(passes);
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

  test('the first policy of a namespace', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const request = { policy, hooks: ['netfilter'], namespaces: [b.netnsName] } as const;
      const made = { maps: [] as number[], programs: [] as number[] };
      const rules = [{ family: 'ipv4', text: NEW }] as const;
      try {
        for (let step = 2; step < 60; step += 3) {
          const end = applyInChild({ request, rules, killAtStep: step });
          const passes = probe(a, b);
          expect([ALL_PASS, NEW_PASSES], end).toContain(passes);
          const { maps, programs } = kernelObjects(policy);
          made.maps.push(...maps);
          made.programs.push(...programs);
          await collectGarbage();
          expect(probe(a, b), end).toBe(passes);
          if (passes === NEW_PASSES) {
            expect(requireLive({ policy }).problems, end).toEqual([]);
            await removePolicies({ policy });
          }
          expect(livePolicies({ policy })).toEqual([]);
          if (end === 'done') break;
        }
        expect(made.programs.length).toBeGreaterThan(0);
        expect(await remaining(made)).toEqual([]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('the way back needs no process', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const target = { policy, hooks: ['netfilter'], namespaces: [b.netnsName] } as const;
      try {
        await applyPolicy({ ...target, rulesets: [parsed(OLD)] });
        applyInChild({
          request: { ...target, confirmSeconds: 2 },
          rules: [{ family: 'ipv4', text: NEW }],
          killAtStep: 1_000,
        });
        expect(probe(a, b)).toBe(NEW_PASSES);
        await new Promise((resolve) => setTimeout(resolve, 2100));
        expect(probe(a, b)).toBe(OLD_PASSES);
        await expect(confirmPolicy({ policy })).rejects.toMatchObject({ code: 'HOST_POLICY_CONFIRM' });
        expect(probe(a, b)).toBe(OLD_PASSES);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
