/**
 * Mistakes in the emitters show. While programs are written, one place of the emitters' code (a line and column that
 * calls the assembler) does something else: a jump with the opposite condition, a bound or a shift that is one too
 * large. For most places some generated case must then have another verdict or other counters than the evaluator says.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Assembler, type Label } from '../../src/isa/index.ts';
import { firstDifference, type JudgedCase, judgeCase, machineCases } from '../support/machine-cases.ts';

const SEED = 20180217;
const RULESETS = 16;
const TRIES = 12;
/** Share of the mistakes that must show; each emitter's file must show some. */
const CAUGHT = 0.8;
const PACKETS = 40;

/** Emitters under test: what writes the code of rules and of the facts they ask about, at netfilter. */
const EMITTERS =
  /src\/compile\/(predicates|prologue\/(ipv4|ipv6|transport)|actions\/(mark|handed|verdict)|emit\/(counter|copy)|strategies\/inline)/;

type Condition = Parameters<Assembler<unknown>['jump']>[0];
const OPPOSITE: Readonly<Record<Condition, Condition>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>',
  's<': 's>=',
  's>=': 's<',
  's>': 's<=',
  's<=': 's>',
  '&': '==',
};

type Jump = (condition: Condition, a: unknown, b: unknown, target: Label) => unknown;
type Alu = (register: unknown, operand: unknown) => unknown;
const JUMPS = ['jump', 'jump32'] as const;
const ARITHMETIC = ['add', 'sub', 'and', 'and32', 'xor32', 'rsh', 'lsh', 'mov'] as const;

/** Where in the emitters the assembler was called from: "predicates/scalar.ts:52:9 jump". */
function siteOf(method: string): string | undefined {
  const holder: { stack?: readonly NodeJS.CallSite[] } = {};
  Error.captureStackTrace(holder, undefined);
  const caller = holder.stack?.find((site) => site.getFileName()?.includes('/src/compile/'));
  const file = /src\/compile\/([\w/-]+\.ts)/.exec(caller?.getFileName() ?? '')?.[1];
  if (file === undefined || !EMITTERS.test(`src/compile/${file}`)) return undefined;
  return `${file}:${caller!.getLineNumber()}:${caller!.getColumnNumber()} ${method}`;
}

/** Runs `use` with the assembler watched; the site `wrong` makes its mistake. Returns the sites met. */
function withMistake(wrong: string | undefined, use: () => void): Set<string> {
  const met = new Set<string>();
  const prototype = Assembler.prototype as unknown as Record<string, (...given: unknown[]) => unknown>;
  const saved = [...JUMPS, ...ARITHMETIC].map((name) => [name, prototype[name]!] as const);
  const at = (name: string): boolean => {
    const site = siteOf(name);
    if (site !== undefined) met.add(site);
    return site !== undefined && site === wrong;
  };
  for (const [name, original] of saved) {
    const isJump = (JUMPS as readonly string[]).includes(name);
    const jump: Jump = function (this: unknown, condition, a, b, target) {
      return original.call(this, at(name) ? OPPOSITE[condition] : condition, a, b, target);
    };
    const arithmetic: Alu = function (this: unknown, register, operand) {
      if (typeof operand !== 'number') return original.call(this, register, operand);
      return original.call(this, register, at(name) ? operand + 1 : operand);
    };
    prototype[name] = (isJump ? jump : arithmetic) as (...given: unknown[]) => unknown;
  }
  // Call sites as they are: making text of them would cost more than all the rest.
  const { prepareStackTrace, stackTraceLimit } = Error;
  Error.prepareStackTrace = (_error, sites) => sites;
  Error.stackTraceLimit = 5;
  try {
    use();
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit });
    for (const [name, original] of saved) prototype[name] = original;
  }
  return met;
}

/** True when the mistake shows: another outcome, a program that is refused or breaks off. */
function shows(judged: JudgedCase): boolean {
  try {
    return firstDifference(judged) !== undefined;
  } catch {
    return true;
  }
}

const cases: readonly JudgedCase[] = (['ipv4', 'ipv6'] as const)
  .flatMap((family) => fc.sample(machineCases(family, PACKETS), { seed: SEED, numRuns: RULESETS }))
  .flatMap((all) => all.flatMap((given) => judgeCase(given) ?? []));

describe('seeded mistakes', () => {
  test('show in every emitter', () => {
    const bySite = new Map<string, JudgedCase[]>();
    for (const judged of cases) {
      let difference: string | undefined;
      const met = withMistake(undefined, () => {
        difference = firstDifference(judged);
      });
      expect(difference).toBeUndefined();
      for (const site of met) bySite.set(site, [...(bySite.get(site) ?? []), judged]);
    }
    const survivors: string[] = [];
    for (const [site, judged] of bySite) {
      let caught = false;
      for (const one of judged.slice(0, TRIES)) {
        withMistake(site, () => {
          caught = shows(one);
        });
        if (caught) break;
      }
      if (!caught) survivors.push(site);
    }
    const caught = bySite.size - survivors.length;
    console.log(`${caught} of ${bySite.size} mistakes caught; not by these cases: ${survivors.join(', ')}`);
    // Some places are met too seldom by so few cases, some change nothing that is compared: the list is printed.
    expect(caught / bySite.size).toBeGreaterThanOrEqual(CAUGHT);
    const fileOf = (site: string): string => site.slice(0, site.indexOf(':'));
    const alive = new Set(survivors);
    const files = [...new Set([...bySite.keys()].map(fileOf))];
    const blind = files.filter((file) =>
      [...bySite.keys()].every((site) => fileOf(site) !== file || alive.has(site)),
    );
    expect(blind).toEqual([]);
  }, 120_000);
});
