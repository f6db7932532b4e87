/**
 * What a packet costs at 1 to 100,000 rules: ours as tables and as code, iptables-legacy, nft rule by rule and with a set
 * written by hand, at the netfilter hook of the rules, with packets of 4,096 flows that hit random rules. "Added" is against a namespace
 * without rules. Rounds are interleaved, the 10th percentile of each one's rounds counts; then each flow's mean by itself.
 *
 * Needs root and the shared data. `npm run bench scale -- [--only FAMILY,…] [--who SUBJECT,…] [--short]`: families are
 * addresses, ports, classbench, real and adversaries. Prints JSON; writes docs/performance/scale.{json,md,svg}, where results of
 * families that did not run stay as they are. A short form, or one of some subjects, writes nothing.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { adversaries } from './adversaries.ts';
import { classBench } from './classbench.ts';
import { FlowTimes } from './flowtimes.ts';
import { FlowGenerator } from './generator.ts';
import { addressList, portList } from './lists.ts';
import { realRulesets } from './real.ts';
import { chart, type Measured, table } from './report.ts';
import { FLOW_COUNT, type Scenario } from './scenario.ts';
import { type Subject, subjectsFor } from './subjects.ts';

const { values: options } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== 'scale'),
  options: { only: { type: 'string' }, who: { type: 'string' }, short: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const SHORT = options.short;
const ROUNDS = SHORT ? 5 : 21;
/** A subject's round is about this long, so that slow rivals do not take hours. */
const ROUND_NS = 15_000_000;
const WARM_UP = 512;
/** Times that each flow's packets are timed one by one, and who is. */
const FLOW_ROUNDS = SHORT ? 24 : 120;
const TIMED: readonly string[] = ['bare', 'sluice', 'nft set'];
/** A packet that takes this many times the mean was interrupted. */
const INTERRUPTED = 8;
/** Not a multiple of a batch's packets, so that every flow's turn to be the last of one comes. */
const FLOW_PACKETS = FLOW_COUNT + 37;

const FAMILIES: Readonly<Record<string, () => (Scenario | undefined)[]>> = {
  addresses: () => sizes([1, 10, 100, 1000, 10_000, 100_000]).map((count) => addressList(count).scenario),
  ports: () => sizes([1000, 65_535]).map(portList),
  classbench: () =>
    (SHORT
      ? ['acl1_1000', 'acl1_10000']
      : ['acl1_1000', 'fw1_1000', 'ipc1_1000', 'acl1_10000', 'fw1_10000', 'acl1_100000']
    ).map(classBench),
  real: realRulesets,
  adversaries,
};

function sizes(all: readonly number[]): readonly number[] {
  return SHORT ? all.filter((count) => count <= 10_000) : all;
}

function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]!;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function send(generator: FlowGenerator, { host, device }: Subject, packets: number): number {
  return host.run(() => generator.send(packets, device?.ifindex, device?.mac));
}

function measure(scenario: Scenario, who: readonly string[] | undefined): Measured[] {
  const subjects = subjectsFor(scenario, who);
  const generator = new FlowGenerator(scenario.flows);
  try {
    const packets = subjects.map((one) => {
      const ns = send(generator, one, WARM_UP);
      return Math.min(FLOW_COUNT * 4, Math.max(WARM_UP, Math.round(ROUND_NS / ns)));
    });
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, one] of subjects.entries()) one.samples.push(send(generator, one, packets[index]!));
    }
    const costs = subjects.map(({ samples }) => percentile(samples, 0.1));
    const flows = timeFlows(scenario, generator, subjects, costs);
    return subjects.map(({ name, details }, index) => {
      const means = flows[index];
      return {
        family: scenario.family,
        scenario: scenario.name,
        rules: scenario.rules,
        subject: name,
        packetNs: costs[index]!,
        addedNs: costs[index]! - costs[0]!,
        ...(means === undefined ? {} : { flowP99Ns: percentile(means, 0.99) - mean(flows[0]!) }),
        ...details,
      };
    });
  } finally {
    generator.close();
    for (const { host } of subjects) host.close();
  }
}

/** The mean of each flow, for those who are timed so. */
function timeFlows(
  { place }: Scenario,
  generator: FlowGenerator,
  subjects: readonly Subject[],
  costs: readonly number[],
): (readonly number[] | undefined)[] {
  const times = new FlowTimes(generator, FLOW_COUNT);
  try {
    return subjects.map((one, index) => {
      if (!TIMED.includes(one.name)) return undefined;
      const link = one.host.run(() => times.attach(place.hook));
      try {
        send(generator, one, WARM_UP);
        times.reset(costs[index]! * INTERRUPTED);
        for (let round = 0; round < FLOW_ROUNDS; round++) send(generator, one, FLOW_PACKETS);
        return times.means();
      } finally {
        link.close();
      }
    });
  } finally {
    times.close();
  }
}

const only = options.only?.split(',') ?? Object.keys(FAMILIES);
const unknown = only.filter((family) => FAMILIES[family] === undefined);
if (unknown.length > 0)
  throw new Error(`no family ${unknown.join(', ')}; there are: ${Object.keys(FAMILIES).join(', ')}`);
const measured: Measured[] = [];
for (const family of only) {
  for (const scenario of FAMILIES[family]!()) {
    if (scenario === undefined) continue;
    const found = measure(scenario, options.who?.split(','));
    measured.push(...found);
    for (const one of found) {
      const p99 = one.flowP99Ns === undefined ? '' : `, p99 of flows ${one.flowP99Ns.toFixed(0)}`;
      console.error(
        `${one.scenario} ${one.subject}: ${one.addedNs.toFixed(0)} ns added to ${(one.packetNs - one.addedNs).toFixed(0)}${p99}, set up ${(one.setUpMs ?? 0).toFixed(0)} ms`,
      );
    }
    if (!SHORT && options.who === undefined) keep(measured);
  }
}
console.log(JSON.stringify({ scale: { version: 2, rounds: ROUNDS, measured } }, undefined, 2));

/** Puts the families' new results in the place of the old ones. Done after each ruleset: a run that is broken off is not lost. */
function keep(fresh: readonly Measured[]): void {
  const folder = new URL('../../docs/performance/', import.meta.url);
  const file = new URL('scale.json', folder);
  mkdirSync(folder, { recursive: true });
  const known: { scale?: { version: number; measured: Measured[] } } = existsSync(file)
    ? JSON.parse(readFileSync(file, 'utf8'))
    : {};
  const old = known.scale?.version === 2 ? known.scale.measured : [];
  const scenarios = new Set(fresh.map(({ scenario }) => scenario));
  const all = [...old.filter(({ scenario }) => !scenarios.has(scenario)), ...fresh];
  const order = Object.keys(FAMILIES);
  all.sort((a, b) => order.indexOf(a.family) - order.indexOf(b.family) || a.rules - b.rules);
  writeFileSync(
    file,
    `${JSON.stringify({ scale: { version: 2, rounds: ROUNDS, measured: all } }, undefined, 2)}\n`,
  );
  writeFileSync(new URL('scale.md', folder), table(all));
  writeFileSync(new URL('scale.svg', folder), chart(all));
}
