/**
 * What it costs to make rules live: milliseconds of `apply` by number of rules, microseconds of the commit, and what ten
 * live rules add to a packet at every hook, against iptables-legacy and nft in the same run. Nothing that it makes outlasts
 * it, and what a run that was killed has left is taken away by the next.
 *
 * Prints JSON and writes docs/performance/apply.{json,md}. Needs root. Run: `npm run bench apply`.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { applyPolicy, collectGarbage, policyNames, removePolicies } from '../../src/host/index.ts';
import { deleteNetns } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Host } from '../../test/support/netns.ts';
import { measure, percentile } from '../compile/measure.ts';
import { type ApplyTimes, page } from './report.ts';

const SIZES = [10, 1000, 10_000] as const;
const TURNS = Number(process.env.SLUICE_BENCH_TURNS ?? 7);
const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 25);
const HOOK_RULES = 10;
const NAME = 'bench';

const lines = (count: number): string[] =>
  Array.from(
    { length: count },
    (_, i) =>
      `-A INPUT -s 10.${(i >> 8) & 255}.${i & 255}.0/24 -p udp -m udp --dport ${1 + (i % 4000)} -j DROP`,
  );
const text = (count: number): string =>
  [
    '*filter',
    ':INPUT ACCEPT [0:0]',
    ':FORWARD ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...lines(count),
    'COMMIT',
    '',
  ].join('\n');

/** One policy after the other, so that each turn loads and attaches everything; then one more rule, put in while it is live. */
async function applyTimes(rules: number): Promise<ApplyTimes> {
  const policy = `${NAME}-${process.pid}`;
  const host = new Host(NAME);
  const fresh: number[] = [];
  const changed: number[] = [];
  const commits: number[] = [];
  const apply = async (count: number, into: number[]): Promise<void> => {
    const { ruleset } = parseRuleset(text(count), { file: 'bench', family: 'ipv4' });
    const { times } = await applyPolicy({
      policy,
      rulesets: [ruleset],
      hooks: ['netfilter'],
      namespaces: [host.netnsName],
    });
    into.push(times.totalMs);
    commits.push(times.commitUs);
  };
  try {
    for (let turn = 0; turn < TURNS; turn++) {
      await apply(rules, fresh);
      await apply(rules + 1, changed);
      await removePolicies({ policy });
    }
  } finally {
    await removePolicies({ policy }).catch(() => []);
    host.close();
  }
  return {
    rules,
    applyMs: percentile(fresh, 0.1),
    replaceMs: percentile(changed, 0.1),
    commitUs: percentile(commits, 0.1),
    commitMedianUs: percentile(commits, 0.5),
  };
}

/** Policies and namespaces of runs whose process is gone. */
async function takeAwayLeftovers(): Promise<void> {
  const gone = (pid: string): boolean => !existsSync(`/proc/${pid}`);
  for (const policy of policyNames()) {
    const pid = new RegExp(`^${NAME}-([0-9]+)$`).exec(policy)?.[1];
    if (pid !== undefined && gone(pid)) await removePolicies({ policy });
  }
  for (const name of existsSync('/run/netns') ? readdirSync('/run/netns') : []) {
    const pid = new RegExp(`^slc-([0-9]+)-[0-9]+-(${NAME}|bare|sluice[a-z]{2}|iptables|nft)$`).exec(
      name,
    )?.[1];
    if (pid !== undefined && gone(pid)) deleteNetns(name);
  }
  await collectGarbage();
}

await takeAwayLeftovers();
const apply: ApplyTimes[] = [];
for (const rules of SIZES) apply.push(await applyTimes(rules));
const hooks = measure(HOOK_RULES, ROUNDS);
const result = `${JSON.stringify({ apply: { version: 1, turns: TURNS, rounds: ROUNDS, apply, hooks } }, undefined, 2)}\n`;
console.log(result);
const folder = new URL('../../docs/performance/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('apply.json', folder), result);
writeFileSync(new URL('apply.md', folder), page(apply, hooks));
