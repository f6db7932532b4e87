/** Counters under load that lasts, in and out at once on every CPU: nothing is counted twice or lost, by zero neither. */
import { cpus } from 'node:os';
import { expect, test } from 'vitest';
import { Generation, type HookName } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies, requireLive, zeroCounters } from '../../src/host/index.ts';
import { PolicyStore } from '../../src/host/policy/store.ts';
import { findBpffs } from '../../src/kernel/index.ts';
import { ScratchCgroup } from '../support/cgroup.ts';
import { Flood, lostBetween } from '../support/flood.ts';
import { describeKernel } from '../support/kernel.ts';
import { parsed, policyName } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';

const LOAD_MS = process.env.SLUICE_SOAK === '1' ? 60_000 : 1500;
const PACKETS_A_SECOND = 6_000;
const BYTES = 60n;
/** The rules have the same places in both chains. */
const RULES = ['-p udp -m udp --dport 5000 -j ACCEPT', '-p udp -m udp --dport 5001 -j DROP'];

/** What `zero` has taken out of counters: words, two a counter. */
function baselines(policy: string): (index: number) => bigint {
  using store = PolicyStore.open(findBpffs()!, policy)!;
  const [record] = store.records.all();
  const view = new DataView(store.arena.buffer);
  const at = view.getUint32(record!.running + Generation.baselines, true);
  return (index) => view.getBigUint64(at + index * 8, true);
}

describeKernel('counters under load', () => {
  test.each([
    { hooks: ['xdp', 'cgroup-egress'] },
    { hooks: ['cgroup-ingress', 'cgroup-egress'] },
    { hooks: ['tcx-ingress', 'tcx-egress'] },
  ] satisfies readonly { readonly hooks: readonly HookName[] }[])('$hooks', ({ hooks }) =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const chains = [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
      const lines = ['INPUT', 'OUTPUT'].flatMap((chain) => RULES.map((rule) => `-A ${chain} ${rule}`));
      const cgroup = hooks.some((hook) => hook.startsWith('cgroup')) ? new ScratchCgroup() : undefined;
      const floods: Flood[] = [];
      try {
        await applyPolicy({
          policy,
          hooks,
          namespaces: [b.netnsName],
          devices: hooks.some((hook) => !hook.startsWith('cgroup')) ? ['a'] : [],
          rulesets: [parsed(['*filter', ...chains, ...lines, 'COMMIT', ''].join('\n'))],
          ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
        });
        // The sockets that packets arrive at are in the cgroup, too.
        const bind = (): unknown[] => [5000, 5001].map((port) => b.udp(port, b.ipv4));
        if (cgroup === undefined) bind();
        else cgroup.run(bind);
        const inside = cgroup === undefined ? {} : { cgroup: cgroup.path };
        const plan = { packetsPerSecond: PACKETS_A_SECOND, milliseconds: LOAD_MS };
        for (const cpu of cpus().slice(0, 2).keys()) {
          floods.push(new Flood({ ...plan, from: a, to: b.ipv4, cpu }));
          floods.push(new Flood({ ...plan, from: b, to: a.ipv4, cpu, ...inside }));
        }
        const lostBefore = lostBetween(a, 'b', b, 'a');
        const all = Promise.all(floods.map(({ sent }) => sent));
        for (const flood of floods) flood.start();
        let done = false;
        all.then(
          () => (done = true),
          () => (done = true),
        );
        let zeroed = 0;
        for (; !done; zeroed++) {
          await zeroCounters({ policy });
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        expect(zeroed).toBeGreaterThan(3);
        const sent = await all;
        const lost = BigInt(lostBetween(a, 'b', b, 'a') - lostBefore);
        const { document, rulesets } = requireLive({ policy });
        const taken = baselines(policy);
        for (const [chain, first] of [
          ['INPUT', 0],
          ['OUTPUT', 1],
        ] as const) {
          const place = document.chains.find((one) => one.chain === chain)!;
          const { rules } = rulesets[0]!.tables[0]!.chains.find(({ name }) => name === chain)!;
          const counted = rules.map(({ counters: { packets, bytes } }, index) => {
            const at = place.rules[0]![0] + index;
            return { packets: packets + taken(at * 2), bytes: bytes + taken(at * 2 + 1) };
          });
          const flows = sent.filter((_, index) => index % 2 === first);
          const total = flows.reduce((sum, packets) => sum + BigInt(packets), 0n);
          expect(total).toBeGreaterThan(1000n);
          const [accepted, dropped] = counted as [(typeof counted)[0], (typeof counted)[0]];
          expect(accepted.packets + dropped.packets, chain).toBe(chain === 'INPUT' ? total - lost : total);
          for (const { packets, bytes } of counted) expect(bytes).toBe(packets * BYTES);
          if (chain === 'OUTPUT' || lost === 0n)
            expect(accepted.packets).toBe(
              flows.reduce((sum, packets) => sum + BigInt(Math.ceil(packets / 2)), 0n),
            );
        }
      } finally {
        for (const flood of floods) flood.close();
        await removePolicies({ policy }).catch(() => []);
        await Promise.allSettled(floods.map(({ sent }) => sent));
        cgroup?.close();
      }
    }),
  );
});
