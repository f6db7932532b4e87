/**
 * What rules ask of the kernel that a replay cannot give it.
 *
 * A netfilter test run (net/bpf/test_run.c) has no input device, `lo` as its output device, no connection, no mark, and
 * the kernel's own clock and chance. Real packets in a namespace have all of these but the capture's clock and the
 * replay's chance; and nothing translates there, because programs do not.
 */
import type { CompiledPolicy, Refusal } from '../../compile/index.ts';
import type { Predicate } from '../../ir/index.ts';
import type { Ruleset } from '../../rules/index.ts';

/** What rules ask for, by why a namespace does not have it; empty: it has. */
const ASKED = {
  'input device': '',
  'output device': '',
  mark: '',
  'packet type': '',
  connection: '',
  'Ethernet header': '',
  'devices of addresses': 'the addresses of a replay are on no device',
  time: "the kernel's clock does not follow the capture",
  'repeatable chance': "the kernel's chance is its own",
} as const;
type Asked = keyof typeof ASKED;

/** Every rule whose answer a test run would get wrong. */
export function beyondTestRuns(policy: CompiledPolicy, rulesets: readonly Ruleset[]): Refusal[] {
  return refusals(policy, rulesets, (what) => `a test run in the kernel has no ${what} of the packet`);
}

/** Every rule whose answer real packets in a namespace would get wrong. */
export function beyondNamespace(policy: CompiledPolicy, rulesets: readonly Ruleset[]): Refusal[] {
  return [...refusals(policy, rulesets, (what) => ASKED[what]), ...natRules(rulesets)];
}

function refusals(
  policy: CompiledPolicy,
  rulesets: readonly Ruleset[],
  reasonOf: (what: Asked) => string,
): Refusal[] {
  const found: Refusal[] = [];
  for (const { ir } of policy.tables) {
    const source = rulesets
      .find(({ family }) => family === ir.family)!
      .tables.find(({ name }) => name === ir.table)!;
    for (const { name: chain, rules } of ir.chains.values()) {
      for (const { predicates, source: place } of rules) {
        const span = source.chains.find(({ name }) => name === chain)?.rules[place.rule - 1]?.span;
        for (const what of new Set(predicates.flatMap(asked))) {
          const { table, rule } = place;
          const reason = reasonOf(what);
          if (reason !== '')
            found.push({ code: 'NOT_AT_HOOK', table, chain, rule, span, what, reason, hooks: [] });
        }
      }
    }
  }
  return found;
}

function natRules(rulesets: readonly Ruleset[]): Refusal[] {
  return rulesets.flatMap(({ tables }) =>
    tables
      .filter(({ name }) => name === 'nat')
      .flatMap(({ chains }) =>
        chains.flatMap(({ name: chain, rules }) =>
          rules.map(
            ({ span }, index): Refusal => ({
              code: 'NOT_AT_HOOK',
              table: 'nat',
              chain,
              rule: index + 1,
              span,
              what: 'nat table',
              reason: 'programs do not translate',
              hooks: [],
            }),
          ),
        ),
      ),
  );
}

const DEVICE = { in: 'input device', out: 'output device' } as const;

function asked(predicate: Predicate): readonly Asked[] {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.flatMap(asked);
    case 'not':
      return asked(predicate.of);
    case 'device':
      return [DEVICE[predicate.side]];
    case 'scalar':
      if (predicate.field === 'meta.mark') return ['mark'];
      if (predicate.field === 'meta.packetType') return ['packet type'];
      if (predicate.field === 'ct.expires') return ['connection', 'time'];
      return predicate.field.startsWith('ct.') ? ['connection'] : [];
    case 'address':
    case 'address-range':
      return predicate.field.startsWith('ct.') ? ['connection'] : [];
    case 'address-type':
      return predicate.limitTo === 'none' ? [] : ['devices of addresses'];
    case 'mac-source':
      return ['Ethernet header'];
    case 'limit':
      return ['time'];
    case 'statistic':
      return predicate.mode.kind === 'random' ? ['repeatable chance'] : [];
    case 'set':
      return predicate.key.words.flatMap(({ from }): readonly Asked[] => {
        if (from === 'in' || from === 'out') return [DEVICE[from]];
        if (from === 'mark') return ['mark'];
        return from.startsWith('mac') ? ['Ethernet header'] : [];
      });
    default:
      return [];
  }
}
