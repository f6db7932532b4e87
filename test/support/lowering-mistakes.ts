/**
 * Mistakes in what rules become before they are programs: a flag inverted, a bound off by one, a bit of a mask or an address
 * turned round, a condition forgotten, another field asked. Made in what an extension's `lower` gives, and in what rules say
 * of addresses, devices and protocols; the evaluator reads the rules as they are.
 */
import {
  type MatchUse,
  placesInOrder,
  type Rule,
  type RuleContext,
  type Ruleset,
} from '../../src/rules/index.ts';
import { compileCase, firstDifference, type JudgedCase } from './machine-cases.ts';
import { changeMatches, changeRules, changeTargets, rulesOf, stateMutants } from './mutants.ts';

type Change = (value: unknown) => unknown;

export interface LoweringReport {
  readonly mistakes: number;
  /** Mistakes by name that no case shows. */
  readonly survivors: readonly string[];
}

interface LoweringMutant {
  /** "-m tcp: 0.minimumBytes + 1" */
  readonly name: string;
  apply(ruleset: Ruleset): Ruleset;
}

/** The mutants of everything that the case's rules lower to. */
function mutantsOf({ ruleset, sets: contents }: JudgedCase): LoweringMutant[] {
  const sets = placesInOrder(contents);
  const rules = rulesOf(ruleset);
  const matches = new Map<string, unknown[]>();
  const targets = new Map<string, unknown[]>();
  const add = (all: Map<string, unknown[]>, name: string, lowered: unknown): void => {
    if (lowered === undefined) return;
    all.set(name, [...(all.get(name) ?? []), lowered]);
  };
  const [table] = ruleset.tables;
  for (const rule of rules) {
    const context: RuleContext = {
      family: ruleset.family,
      table: table!.name,
      chain: 'FORWARD',
      sets,
      ...protocolOf(rule),
    };
    for (const { extension, state } of rule.matches)
      add(matches, extension.name, extension.semantics?.lower?.(state, context));
    const { target } = rule;
    if (target?.kind === 'extension')
      add(targets, target.extension.name, target.extension.semantics?.lower(target.state, context));
  }
  const made: LoweringMutant[] = [];
  for (const [name, lowered] of matches) {
    for (const { what, change } of stateMutants(lowered)) {
      made.push({
        name: `-m ${name}: ${what}`,
        apply: (whole) => changeMatches(whole, name, (use) => mistaken(use, change)),
      });
    }
  }
  for (const [name, lowered] of targets) {
    for (const { what, change } of stateMutants(lowered)) {
      made.push({
        name: `-j ${name}: ${what}`,
        apply: (whole) => changeTargets(whole, name, (use) => mistaken(use, change)),
      });
    }
  }
  for (const { what, change } of stateMutants(rules.map(({ base }) => base))) {
    made.push({
      name: `rule: ${what}`,
      apply: (whole) => changeRules(whole, (rule) => ({ ...rule, base: change(rule.base) as Rule['base'] })),
    });
  }
  return made;
}

function protocolOf({ base: { protocol } }: Rule): Pick<RuleContext, 'protocol'> {
  return protocol === undefined ? {} : { protocol };
}

/** The use of an extension whose `lower` gives something else. */
function mistaken<
  T extends Pick<MatchUse, 'extension'> | { readonly extension: { readonly semantics?: unknown } },
>(use: T, change: Change): T {
  const semantics = use.extension.semantics as { lower?: (...given: unknown[]) => unknown };
  const lower = (...given: unknown[]): unknown => {
    const lowered = semantics.lower!(...given);
    return lowered === undefined ? undefined : change(lowered);
  };
  return { ...use, extension: { ...use.extension, semantics: { ...semantics, lower } } };
}

/** Makes every mistake that `chosen` says by name, one after the other, until a case shows it. */
export function seedLoweringMistakes(
  cases: readonly JudgedCase[],
  chosen: (name: string) => boolean = () => true,
): LoweringReport {
  const mutants = new Map<string, { readonly mutant: LoweringMutant; readonly judged: JudgedCase }[]>();
  for (const judged of cases) {
    for (const mutant of mutantsOf(judged)) {
      mutants.set(mutant.name, [...(mutants.get(mutant.name) ?? []), { mutant, judged }]);
    }
  }
  const survivors: string[] = [];
  let mistakes = 0;
  for (const [name, places] of mutants) {
    if (!chosen(name)) continue;
    mistakes += 1;
    if (!places.some(({ mutant, judged }) => shows(mutant, judged))) survivors.push(name);
  }
  return { mistakes, survivors };
}

function shows(mutant: LoweringMutant, judged: JudgedCase): boolean {
  try {
    const spoiled = { ...judged, ruleset: mutant.apply(judged.ruleset) };
    return firstDifference(judged, compileCase(spoiled)) !== undefined;
  } catch {
    return true;
  }
}

/** "-m tcp", "-j LOG": the extensions that rules of the cases lower. */
export function lowersIn(cases: readonly JudgedCase[]): ReadonlySet<string> {
  return new Set(
    cases.flatMap(({ ruleset }) =>
      rulesOf(ruleset).flatMap(({ matches, target }) => [
        ...matches.map(({ extension }) => `-m ${extension.name}`),
        ...(target?.kind === 'extension' ? [`-j ${target.extension.name}`] : []),
      ]),
    ),
  );
}
