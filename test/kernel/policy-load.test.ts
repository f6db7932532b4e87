/**
 * Counters under load that lasts, in and out at once on every CPU: nothing is counted twice or lost, neither by zero nor by
 * replacements, over which rules that stay keep their counters.
 */
import { cpus } from 'node:os';
import { expect, test } from 'vitest';
import { Generation, type HookName } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies, requireLive, zeroCounters } from '../../src/host/index.ts';
import { ruleCounters } from '../../src/host/policy/document.ts';
import { PolicyStore } from '../../src/host/policy/store.ts';
import { findBpffs } from '../../src/kernel/index.ts';
import { printRule } from '../../src/rules/index.ts';
import { ScratchCgroup } from '../support/cgroup.ts';
import { Flood, lostBetween } from '../support/flood.ts';
import { describeKernel } from '../support/kernel.ts';
import { parsed, policyName } from '../support/live-policy.ts';
import { withPair, withRouter } from '../support/netns.ts';

/** How long, how many packets of each flood and how many turns, at least. */
const LOAD_MS = process.env.SLUICE_SOAK === '1' ? 60_000 : 1500;
const PACKETS = 2000;
const TURNS = 4;
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

/** Rules of every chain that no packet matches: none, one or two of them, others at each turn. */
function passing(turn: number, chains: readonly string[]): string[] {
  const ports = Array.from({ length: turn % 3 }, (_, index) => 7000 + turn * 3 + index);
  return chains.flatMap((chain) => ports.map((port) => `-A ${chain} -p udp -m udp --dport ${port} -j DROP`));
}

/** Does something again and again under load. Returns how much each flood sent. */
async function flooded(
  floods: readonly Flood[],
  turn: (number: number) => Promise<unknown>,
): Promise<readonly number[]> {
  for (const flood of floods) flood.start();
  const enough = performance.now() + LOAD_MS;
  for (let number = 1; number <= TURNS || performance.now() < enough; number++) {
    await turn(number);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const flood of floods) flood.end();
  return await Promise.all(floods.map(({ sent }) => sent));
}

describeKernel('counters under load', () => {
  const cases = (
    [
      ['xdp', 'cgroup-egress'],
      ['cgroup-ingress', 'cgroup-egress'],
      ['tcx-ingress', 'tcx-egress'],
    ] satisfies HookName[][]
  ).flatMap((hooks) => (['zero', 'replace'] as const).map((meanwhile) => ({ hooks, meanwhile })));
  test.each(cases)('$hooks, $meanwhile', ({ hooks, meanwhile }) =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const chains = [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
      const lines = ['INPUT', 'OUTPUT'].flatMap((chain) => RULES.map((rule) => `-A ${chain} ${rule}`));
      const cgroup = hooks.some((hook) => hook.startsWith('cgroup')) ? new ScratchCgroup() : undefined;
      const floods: Flood[] = [];
      /** Rules that come and go before and behind those that stay. */
      const apply = (turn: number) =>
        applyPolicy({
          policy,
          hooks,
          namespaces: [b.netnsName],
          devices: hooks.some((hook) => !hook.startsWith('cgroup')) ? ['a'] : [],
          rulesets: [
            parsed(
              [
                '*filter',
                ...chains,
                ...passing(turn, ['INPUT', 'OUTPUT']),
                ...lines,
                ...passing(turn + 1, ['OUTPUT']),
                'COMMIT',
                '',
              ].join('\n'),
            ),
          ],
          ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
        });
      try {
        await apply(0);
        // The sockets that packets arrive at are in the cgroup, too.
        const bind = (): unknown[] => [5000, 5001].map((port) => b.udp(port, b.ipv4));
        if (cgroup === undefined) bind();
        else cgroup.run(bind);
        const inside = cgroup === undefined ? {} : { cgroup: cgroup.path };
        const plan = { packetsPerSecond: PACKETS_A_SECOND, packets: PACKETS };
        for (const cpu of cpus().slice(0, 2).keys()) {
          floods.push(new Flood({ ...plan, from: a, to: b.ipv4, cpu }));
          floods.push(new Flood({ ...plan, from: b, to: a.ipv4, cpu, ...inside }));
        }
        const lostBefore = lostBetween(a, 'b', b, 'a');
        const sent = await flooded(floods, (turn) =>
          meanwhile === 'zero' ? zeroCounters({ policy }) : apply(turn),
        );
        const lost = BigInt(lostBetween(a, 'b', b, 'a') - lostBefore);
        const { document, rulesets } = requireLive({ policy });
        const taken = baselines(policy);
        for (const [chain, first] of [
          ['INPUT', 0],
          ['OUTPUT', 1],
        ] as const) {
          const place = document.chains.find((one) => one.chain === chain)!;
          const { rules } = rulesets[0]!.tables[0]!.chains.find(({ name }) => name === chain)!;
          const places = ruleCounters(place);
          const counted = rules.flatMap((rule, index) => {
            if (!RULES.some((text) => printRule(rule, chain, 'ipv4').endsWith(text))) return [];
            const { packets, bytes } = rule.counters;
            if (meanwhile === 'replace') return [{ packets, bytes }];
            const at = places[index]! * 2;
            return [{ packets: packets + taken(at), bytes: bytes + taken(at + 1) }];
          });
          const flows = sent.filter((_, index) => index % 2 === first);
          const total = flows.reduce((sum, packets) => sum + BigInt(packets), 0n);
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

  test('netfilter, replace: all five hooks of a router', () =>
    withRouter(async ({ a, b, r }) => {
      const policy = policyName();
      const hooks = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'] as const;
      const apply = (turn: number) =>
        applyPolicy({
          policy,
          hooks: ['netfilter'],
          namespaces: [r.netnsName],
          rulesets: [
            parsed(
              [
                '*mangle',
                ...hooks.map((chain) => `:${chain} ACCEPT [0:0]`),
                ...passing(turn, hooks),
                ...hooks.flatMap((chain) => RULES.map((rule) => `-A ${chain} ${rule.replace(/ -j .*/, '')}`)),
                ...passing(turn + 1, hooks),
                'COMMIT',
                '',
              ].join('\n'),
            ),
          ],
        });
      const floods: Flood[] = [];
      try {
        await apply(0);
        for (const port of [5000, 5001]) {
          r.udp(port);
          b.udp(port);
        }
        const plan = { packetsPerSecond: PACKETS_A_SECOND, packets: PACKETS };
        floods.push(
          new Flood({ ...plan, from: a, to: '10.12.0.2', cpu: 0 }),
          new Flood({ ...plan, from: a, to: '10.11.0.254', cpu: 1 }),
          new Flood({ ...plan, from: r, to: '10.12.0.2', cpu: 1 }),
        );
        const lostBefore = lostBetween(a, 'r', r, 'a');
        const [through = 0, into = 0, out = 0] = await flooded(floods, apply);
        const lost = lostBetween(a, 'r', r, 'a') - lostBefore;
        const { chains } = requireLive({ policy }).rulesets[0]!.tables[0]!;
        const counted = (wanted: (typeof hooks)[number]): number => {
          const own = chains
            .find(({ name }) => name === wanted)!
            .rules.filter((rule) => /--dport 500[01]$/.test(printRule(rule, wanted, 'ipv4')));
          expect(own).toHaveLength(2);
          for (const { counters } of own) expect(counters.bytes).toBe(counters.packets * BYTES);
          return own.reduce((sum, { counters }) => sum + Number(counters.packets), 0);
        };
        expect(counted('PREROUTING')).toBe(through + into - lost);
        expect(counted('INPUT') + counted('FORWARD')).toBe(through + into - lost);
        expect(counted('OUTPUT')).toBe(out);
        expect(counted('POSTROUTING')).toBe(counted('FORWARD') + out);
        if (lost === 0) expect([counted('INPUT'), counted('FORWARD')]).toEqual([into, through]);
      } finally {
        for (const flood of floods) flood.close();
        await removePolicies({ policy }).catch(() => []);
        await Promise.allSettled(floods.map(({ sent }) => sent));
      }
    }));
});
