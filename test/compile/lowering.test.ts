/**
 * A mistake in what rules lower to shows: a flag inverted, a bound off by one, a bit of a mask or an address turned round, a
 * condition forgotten, another field asked, in any of the extensions that programs can run. Each is made once; the programs then
 * differ from the evaluator in some case, in a verdict, a mark, a counter or a record of the log.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { allExtensions } from '../../src/rules/index.ts';
import { lowersIn, seedLoweringMistakes } from '../support/lowering-mistakes.ts';
import { judgeCase, type MachineCase } from '../support/machine-cases.ts';
import { mistakeCases, sample } from '../support/mistake-cases.ts';
import { edgeCases, kinds, listCases, setCases, sideCases } from '../support/set-cases.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
/** One mistake in so many is made, others with other seeds; all of them with SLUICE_SOAK=1. */
const SHARE = 6;

/** Mistakes that change nothing, and why. */
const EQUIVALENT: Readonly<Record<string, string>> = {
  '-m frag: *.minimumBytes - 1':
    'rules ask for the identification in any case, which is the last four of the eight bytes',
};

/** Of each type of sets, and of each kind of rules about lists. */
const SET_CASES = 1;

function casesOf(family: Family): readonly MachineCase[] {
  const ofSets = [
    ...kinds(family).map(([type, entries]) => setCases(family, type, entries)),
    listCases(family, 'asked'),
    listCases(family, 'changed'),
  ].flatMap((cases) => sample(cases, SET_CASES));
  return [
    ...mistakeCases(family),
    ...ofSets.map(({ given }) => given),
    ...edgeCases(family),
    ...sideCases(family),
  ];
}

test('seeded mistakes in lowerings show', () => {
  const cases = (['ipv4', 'ipv6'] as const).flatMap(casesOf).flatMap((given) => judgeCase(given) ?? []);
  const met = lowersIn(cases);
  const lowering = allExtensions()
    .filter(({ semantics }) => semantics?.lower !== undefined)
    .map(({ kind, name }) => `${kind === 'match' ? '-m' : '-j'} ${name}`);
  expect(lowering.filter((name) => !met.has(name))).toEqual([]);
  const seed = fc.readConfigureGlobal().seed ?? 0;
  const chosen = (name: string): boolean => SOAK || fc.hash(`${seed} ${name}`) % SHARE === 0;
  const { mistakes, survivors } = seedLoweringMistakes(cases, chosen);
  console.log(`${mistakes - survivors.length} of ${mistakes} mistakes in lowerings caught`);
  const known = Object.keys(EQUIVALENT).filter(chosen);
  expect([...survivors].sort()).toEqual(known.sort());
});
