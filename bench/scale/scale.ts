/**
 * What a packet costs at 1 to 100,000 rules: ours as tables and as code, iptables-legacy, nft rule by rule and an nft set,
 * at the netfilter hook INPUT, with packets of thousands of flows that hit random rules. "Added" is against a namespace
 * without rules. Rounds are interleaved, the 10th percentile of each one's rounds counts.
 *
 * Prints JSON and writes docs/performance/scale.{json,md,svg}. Needs root and the shared data. Run: `npm run bench scale`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { FlowGenerator } from './generator.ts';
import { chart, type Measured, table } from './report.ts';
import { addressList, classBench, FLOW_COUNT, type Scenario } from './rulesets.ts';
import { subjectsFor } from './subjects.ts';

const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 15);
/** A subject's round is about this long, so that slow rivals do not take hours. */
const ROUND_NS = 20_000_000;
const WARM_UP = 512;

function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]!;
}

function measure(scenario: Scenario): Measured[] {
  const subjects = subjectsFor(scenario);
  const generator = new FlowGenerator(scenario.flows);
  try {
    const packets = subjects.map(({ host }) => {
      const ns = host.run(() => generator.send(WARM_UP));
      return Math.min(FLOW_COUNT * 4, Math.max(WARM_UP, Math.round(ROUND_NS / ns)));
    });
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, { host, samples }] of subjects.entries()) {
        samples.push(host.run(() => generator.send(packets[index]!)));
      }
    }
    const bare = percentile(subjects[0]!.samples, 0.1);
    return subjects.map(({ name, samples, setUpMs, details }) => ({
      scenario: scenario.name,
      rules: scenario.rules.length,
      subject: name,
      packetNs: percentile(samples, 0.1),
      addedNs: percentile(samples, 0.1) - bare,
      setUpMs,
      ...details,
    }));
  } finally {
    generator.close();
    for (const { host } of subjects) host.close();
  }
}

const scenarios: readonly (Scenario | undefined)[] = [
  ...[1, 10, 100, 1000, 10_000, 100_000].map(addressList),
  ...['acl1_1000', 'fw1_1000', 'ipc1_1000', 'acl1_10000', 'fw1_10000', 'acl1_100000'].map(classBench),
];
const only = process.env.SLUICE_BENCH_ONLY;
const measured: Measured[] = [];
for (const scenario of scenarios) {
  if (scenario === undefined || (only !== undefined && !scenario.name.includes(only))) continue;
  const found = measure(scenario);
  measured.push(...found);
  for (const one of found) {
    console.error(
      `${one.scenario} ${one.subject}: ${one.addedNs.toFixed(0)} ns added to ${(one.packetNs - one.addedNs).toFixed(0)}, set up ${one.setUpMs.toFixed(0)} ms`,
    );
  }
}
const text = `${JSON.stringify({ scale: { version: 1, rounds: ROUNDS, measured } }, undefined, 2)}\n`;
console.log(text);
if (only === undefined) {
  const folder = new URL('../../docs/performance/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL('scale.json', folder), text);
  writeFileSync(new URL('scale.md', folder), table(measured));
  writeFileSync(new URL('scale.svg', folder), chart(measured));
}
