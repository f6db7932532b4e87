/**
 * Mistakes seeded into extensions: a match that says the opposite, always or never; one that reads an option wrongly by
 * one, or not at all; a target that does something else. Made by wrapping what a ruleset refers to, never by changing it.
 */
import type {
  MatchOutcome,
  MatchUse,
  Rule,
  Ruleset,
  TargetOutcome,
  TargetUse,
} from '../../src/rules/index.ts';

export interface Mutant {
  /** "-m tcp: source.range.min + 1" */
  readonly name: string;
  /** The ruleset with the mistake in every use of the extension. */
  apply(ruleset: Ruleset): Ruleset;
}

/** Where a value stands in an extension's state: keys of objects and indices of arrays. */
type Path = readonly (string | number)[];
type Change = (value: unknown) => unknown;

const OUTCOMES: Readonly<Record<string, (outcome: MatchOutcome) => MatchOutcome>> = {
  'says the opposite': (outcome) => (typeof outcome === 'boolean' ? !outcome : outcome),
  'always matches': () => true,
  'never matches': () => false,
  'never gives up': (outcome) => (outcome === 'hotdrop' || outcome === 'counted-hotdrop' ? false : outcome),
};

const TARGET_OUTCOMES: readonly TargetOutcome[] = ['accept', 'drop', 'continue'];

/** Extension names with semantics that a ruleset uses: "-m tcp", "-j LOG". */
export function usedExtensions(ruleset: Ruleset): readonly string[] {
  const names = rulesOf(ruleset).flatMap(({ matches, target }) => [
    ...matches
      .filter(({ extension }) => extension.semantics !== undefined)
      .map(({ extension }) => `-m ${extension.name}`),
    ...(target?.kind === 'extension' && target.extension.semantics !== undefined
      ? [`-j ${target.extension.name}`]
      : []),
  ]);
  return [...new Set(names)];
}

/** Every mutant of one extension as the ruleset uses it. */
export function mutantsOf(ruleset: Ruleset, extension: string): readonly Mutant[] {
  return extension.startsWith('-m ')
    ? matchMutants(ruleset, extension.slice(3))
    : targetMutants(ruleset, extension.slice(3));
}

export function rulesOf(ruleset: Ruleset): readonly Rule[] {
  return ruleset.tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules));
}

function matchMutants(ruleset: Ruleset, name: string): Mutant[] {
  const outcomes = Object.entries(OUTCOMES).map(
    ([what, change]): Mutant => ({
      name: `-m ${name}: ${what}`,
      apply: (whole) =>
        changeMatches(whole, name, (use) => {
          const semantics = use.extension.semantics!;
          const evaluate: typeof semantics.evaluate = (...given) => change(semantics.evaluate(...given));
          return { ...use, extension: { ...use.extension, semantics: { ...semantics, evaluate } } };
        }),
    }),
  );
  const states = rulesOf(ruleset)
    .flatMap(({ matches }) => matches)
    .filter(({ extension }) => extension.name === name)
    .map(({ state }) => state);
  const readings = stateMutants(states).map(
    ({ what, change }): Mutant => ({
      name: `-m ${name}: ${what}`,
      apply: (whole) => changeMatches(whole, name, (use) => ({ ...use, state: change(use.state) })),
    }),
  );
  return [...outcomes, ...readings];
}

function targetMutants(ruleset: Ruleset, name: string): Mutant[] {
  const outcomes = TARGET_OUTCOMES.map(
    (outcome): Mutant => ({
      name: `-j ${name}: ${outcome}`,
      apply: (whole) =>
        changeTargets(whole, name, (use) => {
          const semantics = { ...use.extension.semantics!, evaluate: () => outcome };
          return { ...use, extension: { ...use.extension, semantics } };
        }),
    }),
  );
  const states = rulesOf(ruleset)
    .map(({ target }) => target)
    .filter((target) => target?.kind === 'extension' && target.extension.name === name)
    .map((target) => (target?.kind === 'extension' ? target.state : undefined));
  const readings = stateMutants(states).map(
    ({ what, change }): Mutant => ({
      name: `-j ${name}: ${what}`,
      apply: (whole) => changeTargets(whole, name, (use) => ({ ...use, state: change(use.state) })),
    }),
  );
  return [...outcomes, ...readings];
}

/** One mutant for each place of the states and each way to read it wrongly; places beside each other in a list are one. */
export function stateMutants(
  states: readonly unknown[],
): { readonly what: string; readonly change: Change }[] {
  const mutants = new Map<string, Change>();
  for (const state of states) {
    for (const { path, value } of leaves(state, [])) {
      const place = path.map((key) => (typeof key === 'number' ? '*' : key)).join('.');
      for (const [what, change] of changesOf(value)) {
        mutants.set(`${place} ${what}`, (whole) => changeAt(whole, place.split('.'), change));
      }
    }
  }
  return [...mutants].map(([what, change]) => ({ what, change }));
}

function changesOf(value: unknown): readonly (readonly [string, Change])[] {
  if (typeof value === 'number') {
    return [
      ['+ 1', (one) => (typeof one === 'number' ? one + 1 : one)],
      ['- 1', (one) => (typeof one === 'number' ? one - 1 : one)],
    ];
  }
  if (typeof value === 'boolean') return [['flipped', (one) => (typeof one === 'boolean' ? !one : one)]];
  if (value instanceof Uint8Array) {
    return [
      [
        'last bit flipped',
        (one) =>
          one instanceof Uint8Array
            ? one.map((byte, index) => (index === one.length - 1 ? byte ^ 1 : byte))
            : one,
      ],
      [
        'first bit flipped',
        (one) =>
          one instanceof Uint8Array ? one.map((byte, index) => (index === 0 ? byte ^ 0x80 : byte)) : one,
      ],
    ];
  }
  if (typeof value === 'string' && PARTNERS.has(value)) {
    const partner = PARTNERS.get(value)!;
    return [[`${partner} for ${value}`, (one) => (one === value ? partner : one)]];
  }
  if (value instanceof Set) {
    return [['one forgotten', (one) => (one instanceof Set ? new Set([...one].slice(1)) : one)]];
  }
  // Half a range is none.
  if (Array.isArray(value) && !(value.length === 2 && value.every((one) => typeof one === 'number'))) {
    return [
      ['one forgotten', (one) => (Array.isArray(one) ? one.slice(1) : one)],
      ['the last forgotten', (one) => (Array.isArray(one) ? one.slice(0, -1) : one)],
    ];
  }
  return [];
}

/** Words of conditions that are easily exchanged. */
const PARTNERS: ReadonlyMap<string, string> = new Map(
  (
    [
      ['ip.source', 'ip.destination'],
      ['l4.sourcePort', 'l4.destinationPort'],
      ['port.source', 'port.destination'],
      ['tcp-port.source', 'tcp-port.destination'],
      ['icmp.type', 'icmp.code'],
      ['ip.tos', 'ip.ttl'],
      ['ah.spi', 'ah.reserved'],
      ['frag.more', 'frag.reserved'],
      ['ct.originalSource', 'ct.replySource'],
      ['ct.originalDestination', 'ct.replyDestination'],
      ['ct.originalSourcePort', 'ct.replySourcePort'],
      ['ct.originalDestinationPort', 'ct.replyDestinationPort'],
      ['ct.state', 'ct.status'],
      ['in', 'out'],
      ['hotdrop', 'false'],
      ['any', 'all'],
    ] as const
  ).flatMap(([a, b]) => [
    [a, b],
    [b, a],
  ]),
);

/** Values that can be changed, lists themselves among them. */
function leaves(value: unknown, path: Path): { readonly path: Path; readonly value: unknown }[] {
  if (value === null || value === undefined) return [];
  if (value instanceof Uint8Array || value instanceof Set || typeof value !== 'object')
    return [{ path, value }];
  const own = Array.isArray(value) && value.length > 0 ? [{ path, value }] : [];
  const inner = Object.entries(value).flatMap(([key, one]) =>
    leaves(one, [...path, Array.isArray(value) ? Number(key) : key]),
  );
  return [...own, ...inner];
}

function changeAt(value: unknown, path: readonly string[], change: Change): unknown {
  const [key, ...rest] = path;
  if (key === undefined || key === '') return change(value);
  if (Array.isArray(value) && key === '*') return value.map((one) => changeAt(one, rest, change));
  if (value === null || typeof value !== 'object' || !(key in value)) return value;
  const inner = (value as Readonly<Record<string, unknown>>)[key];
  return { ...value, [key]: changeAt(inner, rest, change) };
}

export function changeRules(ruleset: Ruleset, change: (rule: Rule) => Rule): Ruleset {
  return {
    ...ruleset,
    tables: ruleset.tables.map((table) => ({
      ...table,
      chains: table.chains.map((chain) => ({ ...chain, rules: chain.rules.map(change) })),
    })),
  };
}

export function changeMatches(ruleset: Ruleset, name: string, change: (use: MatchUse) => MatchUse): Ruleset {
  return changeRules(ruleset, (rule) => ({
    ...rule,
    matches: rule.matches.map((use) => (use.extension.name === name ? change(use) : use)),
  }));
}

type ExtensionTarget = TargetUse & { readonly kind: 'extension' };

export function changeTargets(
  ruleset: Ruleset,
  name: string,
  change: (use: ExtensionTarget) => ExtensionTarget,
): Ruleset {
  return changeRules(ruleset, (rule) =>
    rule.target?.kind === 'extension' && rule.target.extension.name === name
      ? { ...rule, target: change(rule.target) }
      : rule,
  );
}
