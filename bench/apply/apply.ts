/**
 * What it costs to make rules live: milliseconds of `apply` by number of rules, and microseconds of the commit. The 10th
 * percentile of a few turns counts. Prints JSON. Run as root: `npm run bench apply`.
 */
import { applyPolicy, removePolicies } from '../../src/host/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Host } from '../../test/support/netns.ts';

const SIZES = [10, 1000, 10_000] as const;
const APPLY_TURNS = 5;
const policy = `bench-${process.pid}`;

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
const ruleset = (count: number) => parseRuleset(text(count), { file: 'bench', family: 'ipv4' }).ruleset;
const percentile = (samples: number[], part: number): number =>
  samples.sort((a, b) => a - b)[Math.floor(samples.length * part)] ?? Number.NaN;

async function applyTimes(host: Host) {
  const results = [];
  for (const rules of SIZES) {
    const total: number[] = [];
    const commit: number[] = [];
    for (let turn = 0; turn < APPLY_TURNS; turn++) {
      // One rule more each turn, so that no program is there already.
      const rulesets = [ruleset(rules + turn)];
      const { times } = await applyPolicy({
        policy,
        rulesets,
        hooks: ['netfilter'],
        namespaces: [host.netnsName],
      });
      total.push(times.totalMs);
      commit.push(times.commitUs);
    }
    results.push({ rules, applyMs: percentile(total, 0.1), commitUs: percentile(commit, 0.1) });
  }
  await removePolicies({ policy });
  return results;
}

const host = new Host('bench');
try {
  process.stdout.write(`${JSON.stringify({ bench: 'apply', apply: await applyTimes(host) })}\n`);
} finally {
  await removePolicies({ policy }).catch(() => []);
  host.close();
}
