/**
 * The whole packet path against what a real Linux kernel did with recorded packets and real rulesets: rules hit, policies,
 * and what left the host byte for byte, translated or not.
 */
import { describe, expect, test } from 'vitest';
import { unsupportedRules } from '../../src/rules/index.ts';
import { readSharedJson, sharedDataExists, sharedDataFiles } from '../support/shared-data.ts';
import { replayWalkInStack, type StackWalkPacket, WalkStack } from '../support/stack-walks.ts';
import {
  parseWalkRules,
  type RecordedPacket,
  readWalk,
  recordedTrace,
  type WalkEnvironment,
} from '../support/walks.ts';

const files = sharedDataFiles('kernel-walks');

/** Packets that were compared, of all there are. Raise them when they grow. */
const WHOLE_FILES_FLOOR = 100;
const COMPARED_FLOOR = 25_219;
/** Limits that a jiffy more or less decided. */
const LEEWAY_CEILING = 2;

function difference(file: string, { index, packet, expected, actual, out }: StackWalkPacket): string[] {
  const words: string[] = [];
  if (actual?.join() !== expected.join()) {
    const missing = expected.filter((line) => !actual?.includes(line));
    const extra = (actual ?? []).filter((line) => !expected.includes(line));
    words.push(`not hit ${missing.join(', ')}; hit ${extra.join(', ')}`);
  }
  if (JSON.stringify(out) !== JSON.stringify(packet.out))
    words.push(`left as ${JSON.stringify(out)}, not as ${JSON.stringify(packet.out)}`);
  return words.length === 0 ? [] : [`${file} packet ${index} (${packet.hex}): ${words.join('; ')}`];
}

describe.skipIf(files.length === 0)(`walks of a real kernel (${files.length} files)`, () => {
  test('rules, policies and what leaves are the same for every packet whose rules can be evaluated', () => {
    let packets = 0;
    let compared = 0;
    let sent = 0;
    let whole = 0;
    let leeway = 0;
    let draws = 0;
    const found: string[] = [];
    for (const file of files) {
      const walk = readWalk(file);
      const ruleset = parseWalkRules(file, walk.canonical);
      if (unsupportedRules(ruleset, true).length === 0) whole++;
      const result = replayWalkInStack(walk, ruleset);
      leeway += result.leeway;
      draws += result.draws;
      for (const replayed of result.packets) {
        packets++;
        if (replayed.actual === undefined) continue;
        compared++;
        sent += replayed.out.length;
        found.push(...difference(file, replayed));
      }
    }
    console.log(
      `${compared} of ${packets} packets compared, ${sent} that left; ${whole} rulesets can be evaluated whole, ${leeway} limits at the edge of a jiffy, ${draws} lots as recorded`,
    );
    expect(found.slice(0, 20)).toEqual([]);
    expect(leeway).toBeLessThanOrEqual(LEEWAY_CEILING);
    expect(whole).toBeGreaterThanOrEqual(WHOLE_FILES_FLOOR);
    expect(compared).toBeGreaterThanOrEqual(COMPARED_FLOOR);
  });
});

interface FragmentWalk {
  readonly ruleset: string;
  readonly cases: readonly {
    readonly name: string;
    readonly steps: readonly Pick<RecordedPacket, 'hex' | 'matched' | 'policy' | 'out'>[];
  }[];
}

/** As the records say in words. */
const FRAGMENT_ENVIRONMENT: WalkEnvironment = {
  ifaces: [
    { name: 'eth0', addr: '198.18.0.1/24' },
    { name: 'eth1', addr: '198.18.1.1/24' },
  ],
  extra_local: [],
  routes: ['default dev eth0'],
  sysctl: 'ip_forward=1',
};

describe.skipIf(!sharedDataExists('kernel-walks-frag'))('fragments, one by one', () => {
  test.each(['stateless', 'conntrack'])(
    '%s: each step hits the same rules and policies, and leaves as it left there',
    (mode) => {
      const file = `frag-${mode}.json`;
      const walk = readSharedJson<FragmentWalk>('kernel-walks-frag', file);
      const host = new WalkStack(parseWalkRules(file, walk.ruleset), FRAGMENT_ENVIRONMENT);
      const actual: unknown[] = [];
      const expected: unknown[] = [];
      for (const { name, steps } of walk.cases) {
        for (const [index, step] of steps.entries()) {
          host.clock.advance(1);
          const { trace, out } = host.receive(step.hex, 'eth0');
          actual.push({ name, index, hit: trace, out });
          expected.push({ name, index, hit: recordedTrace(step), out: step.out });
        }
      }
      expect(actual).toEqual(expected);
      expect(walk.cases.length).toBeGreaterThanOrEqual(104);
    },
  );
});
