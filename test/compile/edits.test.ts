/** Long runs of changes in live tables (support/edit-cases.ts). SLUICE_SOAK=1 multiplies the runs. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { entryIndex } from '../../src/compile/index.ts';
import { type Outcome, ruleOf, runChanges, stepOf } from '../support/edit-cases.ts';
import { Edited, type Model, parse, USER } from '../support/edited.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 200 : 2;
const STEPS = 60;

for (const [table, size, sets] of [
  ['filter', 2, false],
  ['filter', 100, true],
  ['mangle', 60, false],
] as const) {
  test(`runs of changes in ${size} rules of table ${table}`, () => {
    const outcome: Outcome = { edits: 0, reasons: [] };
    const first = fc.array(ruleOf(table, sets, 0), { minLength: size, maxLength: size });
    const cases = fc.tuple(
      sets ? first.map((rules) => ['-j SET --del-set few src', ...rules]) : first,
      fc.array(stepOf(table, sets), { minLength: STEPS, maxLength: STEPS }),
    );
    const property = fc.property(cases, ([rules, steps]) => {
      expect(runChanges(table, rules, steps, outcome)).toBe(undefined);
    });
    fc.assert(property, { numRuns: RUNS, endOnFailure: true });
    expect(outcome.edits).toBeGreaterThan(outcome.reasons.length * 10);
  });
}

/** Live tables of a model without user chains but these two, and what comes of packets. */
function directed(rules: readonly string[], one: readonly string[] = [], two: readonly string[] = []): Model {
  return {
    table: 'filter',
    builtIn: { INPUT: { rules: [...rules], policy: 'ACCEPT' }, FORWARD: { rules: [], policy: 'ACCEPT' } },
    user: [[...one], [...two], undefined, undefined, undefined],
    names: Array.from({ length: USER }, (_, number) => `u${number}`),
  };
}
/** UDP to port 7 from a source of its own. */
function udp(source: number): Uint8Array {
  return Uint8Array.from([
    ...[0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 192, 1, 1, source, 192, 2, 2, 2],
    ...[0, 1, 0, 7, 0, 8, 0, 0],
  ]);
}
const INPUT_PLACE = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 });
function sendUdp(live: Edited, source: number): boolean {
  const input = { bytes: udp(source), hook: 1, inDevice: 'eth0', outDevice: '', family: 'ipv4' } as const;
  return live.machine.run(INPUT_PLACE, input)!.accepted;
}
const FILLING = Array.from(
  { length: 60 },
  (_, at) => `-s 10.0.0.${at + 1}/32 -p tcp -m tcp --dport ${at + 1}`,
);

test('who returns from a chain goes on behind the jump, in a part whose records lie before those of the part ahead', () => {
  const front = ['-p udp -j @0', ...FILLING.slice(0, 9), '-p udp -m udp --dport 7'];
  const back = ['-p udp -m udp --dport 7 -m ttl --ttl-gt 1', ...FILLING.slice(9)];
  const model = directed([...front, ...back], ['-p udp']);
  const live = new Edited(parse(model));
  // The back comes first: parts of the same records, those with the lower numbers behind.
  model.builtIn.INPUT.rules = [...back, ...front];
  expect(live.change(parse(model), [])).toBe(undefined);
  expect(sendUdp(live, 1)).toBe(true);
  const counts = live.counts();
  const moved = ['-A INPUT -p udp -m udp --dport 7 0', '-A u0 -p udp 0', '-A INPUT -p udp -j u0 0'];
  expect(moved.map((key) => counts.get(key))).toEqual(['1:28', '1:28', '1:28']);
  expect(counts.get('-A INPUT -p udp -m udp --dport 7 -m ttl --ttl-gt 1 0')).toBe('1:28');
});

test('rates go on where they are when rules come and go around them, and have a full bucket when they come', () => {
  const limit = '-p udp -m limit --limit 1/hour --limit-burst 2 -j ACCEPT';
  const model = directed([...FILLING, limit, '-j DROP']);
  const live = new Edited(parse(model));
  const verdicts: boolean[] = [];
  for (let turn = 0; turn < 4; turn++) {
    model.builtIn.INPUT.rules.splice(turn * 9, 1);
    model.builtIn.INPUT.rules.splice(model.builtIn.INPUT.rules.length - 2, 0, `-s 10.9.9.${turn + 1}/32`);
    expect(live.change(parse(model), [])).toBe(undefined);
    verdicts.push(sendUdp(live, 1));
  }
  model.builtIn.INPUT.rules.splice(30, 0, `-s 192.1.1.1/32 ${limit}`);
  expect(live.change(parse(model), [])).toBe(undefined);
  for (let turn = 0; turn < 3; turn++) verdicts.push(sendUdp(live, 1));
  expect(verdicts).toEqual([true, true, false, false, true, true, false]);
});

test('a chain that is called from another hook from now on finds there what its rules ask for', () => {
  const model = directed(
    [...FILLING, '-j @0'],
    ['-i eth1 -j DROP', '-p udp -m udp --dport 7 -j ACCEPT', '-j DROP'],
  );
  const live = new Edited(
    parse({
      ...model,
      builtIn: { ...model.builtIn, FORWARD: { rules: ['-s 10.1.1.1/32'], policy: 'ACCEPT' } },
    }),
  );
  model.builtIn.FORWARD.rules = ['-s 10.1.1.1/32', '-j @0'];
  expect(live.change(parse(model), [])).toBe(undefined);
  const place = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 2 });
  const forwarded = (inDevice: string): boolean =>
    live.machine.run(place, { bytes: udp(1), hook: 2, inDevice, outDevice: 'eth1', family: 'ipv4' })!
      .accepted;
  expect([forwarded('eth0'), forwarded('eth1')]).toEqual([true, false]);
});

test('a chain with many parts is built anew in place, and goes on counting', () => {
  const model = directed([...FILLING, ...FILLING.map((one) => `${one} -m ttl --ttl-gt 1`), '-p udp']);
  const live = new Edited(parse(model));
  for (let turn = 0; turn < 150; turn++) {
    const { rules } = model.builtIn.INPUT;
    rules.splice((turn * 37) % rules.length, 0, `-s 192.1.1.${turn + 1}/32 -p udp -m udp --dport 7`);
    expect(live.change(parse(model), [])).toBe(undefined);
    sendUdp(live, turn + 1);
  }
  const counts = live.counts();
  const own = Array.from({ length: 150 }, (_, turn) =>
    counts.get(`-A INPUT -s 192.1.1.${turn + 1}/32 -p udp -m udp --dport 7 0`),
  );
  expect(own).toEqual(own.map(() => '1:28'));
  expect(counts.get('-A INPUT -p udp 0')).toBe(`150:${150 * 28}`);
});
