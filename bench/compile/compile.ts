/**
 * What a packet costs at 1, 10 and 100 rules at each hook: Sluice's programs at xdp, tcx ingress, netfilter INPUT and
 * cgroup ingress, iptables-legacy and nft at INPUT, all in one run, interleaved. Packets of thousands of flows match random
 * rules, are accepted by them, and end in the same place. "Added" is against a namespace without rules; the program at cgroup,
 * which only sockets get to, is timed by test runs instead. The 10th percentile of each one's rounds counts.
 *
 * Prints JSON and writes docs/performance/compile.{json,md}. Needs root. Run: `npm run bench compile`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { FlowGenerator } from '../scale/generator.ts';
import { addressList } from '../scale/rulesets.ts';
import { type Measured, table } from './report.ts';
import { subjectsFor } from './subjects.ts';

const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 25);
const RULES = [1, 10, 100] as const;
/** Packets of a round: about 10 ms. */
const PACKETS = 16_384;

function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]!;
}

function measure(rules: number): Measured[] {
  const { flows, rules: list } = addressList(rules);
  const generator = new FlowGenerator(flows);
  const subjects = subjectsFor(list.map(({ source }) => source));
  try {
    for (let round = 0; round <= ROUNDS; round++) {
      for (const { samples, sample } of subjects) {
        const ns = sample(generator, PACKETS);
        // The first round warms up.
        if (round > 0) samples.push(ns);
      }
    }
    const bare = percentile(subjects[0]!.samples, 0.1);
    return subjects.slice(1).map(({ name, samples, times, alone }) => {
      const ns = percentile(samples, 0.1);
      return { rules, subject: name, addedNs: alone ? ns : ns - bare, bareNs: bare, ...times };
    });
  } finally {
    generator.close();
    for (const { close } of subjects) close();
  }
}

const measured = RULES.flatMap(measure);
const text = `${JSON.stringify({ compile: { version: 1, rounds: ROUNDS, measured } }, undefined, 2)}\n`;
console.log(text);
const folder = new URL('../../docs/performance/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('compile.json', folder), text);
writeFileSync(new URL('compile.md', folder), table(measured));
