/**
 * The evaluator against what a real Linux kernel did: recorded packets through real rulesets must hit the same rules
 * and policies, each as often.
 */
import { describe, expect, test } from 'vitest';
import { sharedDataFiles } from '../support/shared-data.ts';
import { isFirstTier, parseWalkRules, type ReplayedPacket, readWalk, replayWalk } from '../support/walks.ts';

const files = sharedDataFiles('kernel-walks');

/** Rulesets whose rules can all be evaluated, and their packets: none may be lost. */
const WHOLE_FILES = 52;
const WHOLE_PACKETS = 11_906;
/** Packets of the other files whose way meets evaluable rules only. Raise it when it grows. */
const OTHER_PACKETS_FLOOR = 10_257;

function describeDifference(file: string, { index, packet, expected, actual }: ReplayedPacket): string {
  const missing = expected.filter((line) => !actual?.includes(line));
  const extra = (actual ?? []).filter((line) => !expected.includes(line));
  return `${file} packet ${index} (${packet.in} ${packet.hex}): not hit ${missing.join(', ')}; hit ${extra.join(', ')}`;
}

function differences(file: string, replayed: readonly ReplayedPacket[]): string[] {
  return replayed
    .filter(({ actual, expected }) => actual !== undefined && actual.join() !== expected.join())
    .map((packet) => describeDifference(file, packet));
}

describe.skipIf(files.length === 0)(`walks of a real kernel (${files.length} files)`, () => {
  const walks = files.map((file) => {
    const walk = readWalk(file);
    return { file, walk, ruleset: parseWalkRules(file, walk.canonical) };
  });
  const whole = walks.filter(({ ruleset }) => isFirstTier(ruleset));
  const others = walks.filter(({ ruleset }) => !isFirstTier(ruleset));

  test(`rulesets that can be evaluated as a whole: every packet hits the same rules and policies`, () => {
    let packets = 0;
    const found: string[] = [];
    for (const { file, walk, ruleset } of whole) {
      const replayed = replayWalk(walk, ruleset, 'refuse');
      packets += replayed.length;
      found.push(...differences(file, replayed));
    }
    expect(found).toEqual([]);
    expect(whole.length).toBeGreaterThanOrEqual(WHOLE_FILES);
    expect(packets).toBeGreaterThanOrEqual(WHOLE_PACKETS);
  });

  test('other rulesets: packets that meet evaluable rules only hit the same rules and policies', () => {
    let packets = 0;
    let reached = 0;
    const found: string[] = [];
    for (const { file, walk, ruleset } of others) {
      const replayed = replayWalk(walk, ruleset, 'when-reached');
      packets += replayed.length;
      reached += replayed.filter(({ actual }) => actual !== undefined).length;
      found.push(...differences(file, replayed));
    }
    console.log(
      `${reached} of ${packets} packets of ${others.length} rulesets with other extensions compared`,
    );
    expect(found).toEqual([]);
    expect(reached).toBeGreaterThanOrEqual(OTHER_PACKETS_FLOOR);
  });
});
