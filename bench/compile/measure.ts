/** A packet's cost at every hook with so many rules, against the same namespace without any: rivals interleaved in one run. */
import { FlowGenerator } from '../scale/generator.ts';
import { addressList } from '../scale/lists.ts';
import type { Measured } from './report.ts';
import { subjectsFor } from './subjects.ts';

/** Packets of a round: about 10 ms. */
const PACKETS = 16_384;

/** The 10th percentile of each one's rounds counts. */
export function measure(rules: number, rounds: number): Measured[] {
  const { sources, scenario } = addressList(rules);
  const generator = new FlowGenerator(scenario.flows);
  const subjects = subjectsFor(sources);
  try {
    for (let round = 0; round <= rounds; round++) {
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

/** The sample that this share of the samples does not exceed. */
export function percentile(samples: readonly number[], share: number): number {
  return samples.toSorted((a, b) => a - b)[Math.floor((samples.length - 1) * share)]!;
}
