/** Fragment by fragment against what a real kernel did, with and without conntrack (which reassembles before all rules). */
import { describe, expect, test } from 'vitest';
import { namespaceReassembler } from '../../src/host/replay/host.ts';
import { evaluatePacket } from '../../src/rules/index.ts';
import { readSharedJson, sharedDataExists } from '../support/shared-data.ts';
import {
  outcomeTrace,
  parseWalkRules,
  type RecordedPacket,
  recordedTrace,
  type WalkEnvironment,
  walkHost,
} from '../support/walks.ts';

interface FragmentWalk {
  readonly ruleset: string;
  readonly cases: readonly {
    readonly name: string;
    readonly steps: readonly Pick<RecordedPacket, 'hex' | 'matched' | 'policy'>[];
  }[];
}

/** As the records say in words. */
const ENVIRONMENT: WalkEnvironment = {
  ifaces: [
    { name: 'eth0', addr: '198.18.0.1/24' },
    { name: 'eth1', addr: '198.18.1.1/24' },
  ],
  extra_local: [],
  routes: ['default dev eth0'],
  sysctl: 'ip_forward=1',
};

const MODES = [
  { mode: 'stateless', cases: 104 },
  { mode: 'conntrack', cases: 104 },
] as const;

describe.skipIf(!sharedDataExists('kernel-walks-frag'))('fragments, one by one', () => {
  test.each(MODES)('$mode: each step hits the same rules and policies', ({ mode, cases }) => {
    const file = `frag-${mode}.json`;
    const walk = readSharedJson<FragmentWalk>('kernel-walks-frag', file);
    const clock = { nowMs: 0 };
    const host = walkHost(parseWalkRules(file, walk.ruleset), ENVIRONMENT, clock, {
      unsupported: 'refuse',
      reassembler: namespaceReassembler({ nowMs: () => clock.nowMs }),
    });
    const actual: unknown[] = [];
    const expected: unknown[] = [];
    for (const { name, steps } of walk.cases) {
      for (const [index, step] of steps.entries()) {
        clock.nowMs += 1;
        const bytes = Uint8Array.from(Buffer.from(step.hex, 'hex'));
        const outcome = evaluatePacket(host, { bytes, inDevice: 'eth0' });
        actual.push({ name, index, hit: outcomeTrace(outcome) });
        expected.push({ name, index, hit: recordedTrace(step) });
      }
    }
    expect(actual).toEqual(expected);
    expect(walk.cases.length).toBeGreaterThanOrEqual(cases);
  });
});
