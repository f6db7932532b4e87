/**
 * The recorded vectors of the extensions are what this kernel does. With SLUICE_RECORD=1 they are recorded anew:
 * SLUICE_RECORD=1 npx vitest run --project kernel test/kernel/rule-vectors.test.ts
 */
import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { connectionRuleset, focusedRuleset, focusesOf, targetRuleset } from '../support/generate/focused.ts';
import { anyShape, packetsFor } from '../support/generate/packets.ts';
import type { GeneratedRuleset } from '../support/generate/rulesets.ts';
import type { Shape } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { LiveFirewall } from '../support/live-firewall.ts';
import { withNamespaces } from '../support/netns.ts';
import {
  formatVectors,
  readVectors,
  summarizeHits,
  VECTORS_FILE,
  type Vector,
  type VectorPacket,
} from '../support/vectors.ts';

const RECORD = process.env.SLUICE_RECORD === '1';
const SEED = 20_251_121;
const RULES = 20;
const PACKETS = 44;
/** Enough for a token of the limits below to come back, and far from any edge. */
const PAUSE_MS = 1_300;

interface Case {
  readonly name: string;
  readonly ruleset: GeneratedRuleset;
  readonly shapes: readonly Shape[];
  /** Wait before the packets at these indices. */
  readonly pauses: readonly number[];
}

function sample<T>(arbitrary: fc.Arbitrary<T>, count: number, salt: string): T[] {
  const seed = [...salt].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) | 0, SEED);
  return fc.sample(arbitrary, { numRuns: count, seed });
}

function casesOf(family: Family): Case[] {
  const named = [...focusesOf(family)].map(([match, focus]): Case => {
    const name = `${family} ${match}`;
    const ruleset = sample(focusedRuleset(family, focus, RULES), 1, name)[0]!;
    const shapes = sample(packetsFor(ruleset), PACKETS, name);
    return { name, ruleset, shapes: match === 'length' ? shapes : shapes.map(small), pauses: [] };
  });
  const talks = sample(conversation(family), 16, family).flat();
  const connections = sample(connectionRuleset(family, talks, 24), 1, family)[0]!;
  const simple = ['ports', 'tcp'].flatMap((kind) =>
    sample(anyShape(family), 400, kind)
      .filter(({ transport }) => transport.kind === kind)
      .slice(0, 12),
  );
  const targets = targetRuleset(family);
  return [
    ...named,
    { name: `${family} conntrack`, ruleset: connections, shapes: talks, pauses: [] },
    { name: `${family} targets`, ruleset: targets, shapes: simple.map(small), pauses: [] },
    limitCase(family, talks[0]!),
  ];
}

/** Buckets that are emptied, then filled by waiting. */
function limitCase(family: Family, shape: Shape): Case {
  const limits = [
    '1/sec --limit-burst 1',
    '1/sec --limit-burst 3',
    '60/min --limit-burst 2',
    '2/sec --limit-burst 5',
    '1/hour --limit-burst 4',
  ];
  const rules = limits.map((limit) => ({ text: `-A PREROUTING -m limit --limit ${limit}`, aims: [] }));
  const lines = [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT DROP [0:0]',
    ...rules.map(({ text }) => text),
    'COMMIT',
    '',
  ];
  const ruleset = { family, text: lines.join('\n'), rules, stateful: false };
  return { name: `${family} limit`, ruleset, shapes: new Array<Shape>(18).fill(shape), pauses: [8, 12, 15] };
}

/** Short payloads where nothing depends on them, to keep the file small. */
function small(shape: Shape): Shape {
  return { ...shape, payloadBytes: shape.payloadBytes % 24 };
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** The counters that have moved, without their values. */
function moved(before: readonly string[], after: readonly string[]): string {
  const lines = after.filter((line) => !before.includes(line));
  return summarizeHits(lines.map((line) => line.replace(/ \d+:\d+$/, '')));
}

function record(firewall: LiveFirewall, { name, ruleset, shapes, pauses }: Case): Vector {
  firewall.load(ruleset.family, ruleset.text);
  const start = performance.now();
  let before = firewall.counters();
  const packets = shapes.map((shape, index): VectorPacket => {
    if (pauses.includes(index)) pause(PAUSE_MS);
    const at = Math.floor(performance.now() - start);
    const { bytes, ethernet, packetType, inDevice } = firewall.inject(shape);
    const after = firewall.counters();
    const hit = moved(before, after);
    before = after;
    const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');
    return { at, inDevice, hex: hex(bytes), ethernet: hex(ethernet!), packetType: packetType!, hit };
  });
  const { family, stateful, text } = ruleset;
  return { name, family, stateful, rules: text.trimEnd().split('\n'), packets };
}

/** The recorded packets once more; what they hit now. */
function replay(firewall: LiveFirewall, vector: Vector): readonly string[] {
  firewall.load(vector.family, `${vector.rules.join('\n')}\n`);
  const start = performance.now();
  let before = firewall.counters();
  return vector.packets.map((packet) => {
    const early = packet.at - (performance.now() - start);
    if (early > 1000) pause(early);
    firewall.injectFrame(packet.inDevice, Buffer.from(packet.ethernet + packet.hex, 'hex'));
    const after = firewall.counters();
    const hit = moved(before, after);
    before = after;
    return hit;
  });
}

describeKernel('vectors of the extensions', () => {
  // SLUICE_RECORD=1 writes the vectors anew instead of comparing with them.
  if (RECORD) test('are recorded', recordAll);
  else test('are what this kernel does', compareAll);
});

async function recordAll(): Promise<void> {
  await withNamespaces(['fw'], ({ fw }) => {
    const firewall = new LiveFirewall(fw);
    const cases = (['ipv4', 'ipv6'] as const).flatMap(casesOf);
    writeFileSync(VECTORS_FILE, formatVectors(cases.map((one) => record(firewall, one))));
  });
}

async function compareAll(): Promise<void> {
  await withNamespaces(['fw'], ({ fw }) => {
    const firewall = new LiveFirewall(fw);
    for (const vector of readVectors()) {
      const expected = vector.packets.map(({ hit }) => hit);
      let hits = replay(firewall, vector);
      // A crowded machine may hold packets up until there are tokens again; sooner or later it does not.
      for (let again = 0; isTimed(vector) && hits.join() !== expected.join() && again < 20; again++)
        hits = replay(firewall, vector);
      expect(hits, vector.name).toEqual(expected);
    }
  });
}

function isTimed({ rules }: Vector): boolean {
  return rules.some((rule) => rule.includes('-m limit'));
}
