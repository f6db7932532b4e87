/** What texts do to tables that are there: as the real iptables-restore does it, with and without flushing. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, printTable, type TableName } from '../../src/rules/index.ts';
import {
  inScratchNetns,
  iptablesMissing,
  restoreProgram,
  saveProgram,
  withoutComments,
} from '../support/iptables.ts';

interface Case {
  readonly base: string;
  readonly text: string;
  readonly noflush?: boolean;
  readonly counters?: boolean;
  readonly table?: TableName;
}

/** Tables from "*name" to "COMMIT", in the order of their names; `undefined`: refused. */
type Outcome = string | undefined;

function tablesIn(saved: string): string {
  return saved
    .split(/(?<=^COMMIT\n)/m)
    .sort()
    .join('');
}

function kernelOutcome({ base, text, noflush, counters, table }: Case, family: Family): Outcome {
  const restore = restoreProgram(family);
  const options = [noflush ? '-n' : '', counters ? '-c' : '', table === undefined ? '' : `-T ${table}`];
  const script = [
    `${restore} -c <<'BASE' || exit 90\n${base}BASE`,
    `${restore} ${options.join(' ')} "$INPUT" || exit 91`,
    `${saveProgram(family)} -c`,
  ];
  const { status, stdout, stderr } = inScratchNetns(script.join('\n'), text);
  expect([0, 91], stderr).toContain(status);
  return status === 0 ? tablesIn(withoutComments(stdout)) : undefined;
}

function ourOutcome({ base, text, noflush, counters, table }: Case, family: Family): Outcome {
  const before = parseRuleset(base, { file: 'base', family }).ruleset;
  const printed = (): string =>
    before.tables.map((one) => printTable(one, family, { counters: true })).join('');
  const whole = printed();
  const { ruleset, diagnostics } = parseRuleset(text, {
    file: 'text',
    family,
    base: before,
    noflush: noflush === true,
    passCounters: counters !== true,
    ...(table === undefined ? {} : { table }),
  });
  expect(printed()).toBe(whole);
  for (const { span } of diagnostics) expect(span.file).toBe('text');
  if (diagnostics.some(({ severity }) => severity === 'error')) return undefined;
  return tablesIn(ruleset.tables.map((one) => printTable(one, family, { counters: true })).join(''));
}

const BASE = [
  '*mangle',
  ':PREROUTING ACCEPT [7:700]',
  '[9:900] -A PREROUTING -i lo -j MARK --set-xmark 0x1/0xffffffff',
  'COMMIT',
  '*filter',
  ':INPUT DROP [5:600]',
  ':one - [0:0]',
  ':two - [0:0]',
  '[1:40] -A INPUT -i lo -j one',
  '[2:80] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT',
  '[3:90] -A INPUT -i lo -j one',
  '[4:99] -A one -j two',
  '[6:66] -A two -i eth0 -j DROP',
  'COMMIT',
  '',
].join('\n');

function filter(...lines: string[]): string {
  return ['*filter', ...lines, 'COMMIT', ''].join('\n');
}

const CASES: Readonly<Record<string, Omit<Case, 'base'>>> = {
  'a table is replaced, policies stay': { text: filter('-A INPUT -j ACCEPT') },
  'nothing but the table': { text: filter() },
  'rules are appended': { text: filter('-A INPUT -j ACCEPT', '-A one -j RETURN'), noflush: true },
  'a user chain that is declared is emptied': {
    text: filter(':two - [0:0]', '-A two -j DROP'),
    noflush: true,
  },
  'a built-in chain that is declared is not': { text: filter(':INPUT ACCEPT [8:9]'), noflush: true },
  'with counters': {
    text: filter(':INPUT ACCEPT [8:9]', '[3:4] -I INPUT 2 -j ACCEPT'),
    noflush: true,
    counters: true,
  },
  'counters without asking for them': { text: filter(':INPUT DROP [8:9]', '[3:4] -A INPUT -j ACCEPT') },
  'counters by an option': { text: filter('-A INPUT -c 3 4 -j ACCEPT'), noflush: true },
  'a new chain': { text: filter(':new - [0:0]', '-A new -j one', '-I INPUT -j new'), noflush: true },
  'a chain that is there is made': { text: filter('-N one'), noflush: true },
  'rules are deleted and replaced': {
    text: filter('-D INPUT -i lo -j one', '-R INPUT 1 -j DROP', '-D one 1', '-F two', '-X two'),
    noflush: true,
  },
  'a rule that is not there is deleted': { text: filter('-D INPUT -i eth7 -j one'), noflush: true },
  'a place that is not there': { text: filter('-I INPUT 5 -j DROP'), noflush: true },
  'a chain in use is deleted': { text: filter('-F two', '-X two'), noflush: true },
  'a loop through a rule that is there': { text: filter('-A two -j one'), noflush: true },
  'counters to zero': { text: filter('-Z INPUT', '-Z one 1'), noflush: true },
  'a chain gets another name': { text: filter('-E two three', '-A three -j DROP'), noflush: true },
  'one table of several': {
    text: `*mangle\nnonsense\nCOMMIT\n${filter('-A INPUT -j DROP')}`,
    noflush: true,
    table: 'filter',
  },
  'a table that was not there': { text: '*raw\n-A OUTPUT -o lo -j NOTRACK\nCOMMIT\n' },
  'the same table twice': {
    text: filter('-P INPUT ACCEPT', '-A one -j DROP') + filter('-A one -j ACCEPT'),
    noflush: true,
  },
};

const chain = fc.constantFrom('INPUT', 'OUTPUT', 'one', 'two', 'three');
const userChain = fc.constantFrom('one', 'two', 'three');
const place = fc.integer({ min: 1, max: 3 });
const rule = fc
  .tuple(
    fc.constantFrom('', '-p tcp -m tcp --dport 22 ', '-m mark --mark 0x1 ', '-m comment --comment "a b" '),
    fc.constantFrom('-j ACCEPT', '-j DROP', '-j RETURN', '', '-j one', '-g two', '-j three'),
  )
  .map((parts) => parts.join(''));
const counts = fc.constantFrom('', '[3:400] ', '[12:1] ');
const appended = fc.tuple(counts, chain, rule).map(([count, one, text]) => `${count}-A ${one} ${text}`);
const line: fc.Arbitrary<string> = fc.oneof(
  { weight: 8, arbitrary: appended },
  {
    weight: 3,
    arbitrary: fc
      .tuple(counts, fc.constantFrom('-I', '-R'), chain, place, rule)
      .map(([count, how, one, at, text]) => `${count}${how} ${one} ${at} ${text}`),
  },
  { weight: 1, arbitrary: fc.tuple(chain, place).map(([one, at]) => `-D ${one} ${at}`) },
  { weight: 1, arbitrary: fc.tuple(chain, rule).map(([one, text]) => `-D ${one} ${text}`) },
  { weight: 3, arbitrary: userChain.map((one) => `:${one} - [0:0]`) },
  { weight: 1, arbitrary: userChain.map((one) => `-F ${one}`) },
  { weight: 1, arbitrary: userChain.map((one) => `-X ${one}`) },
  { weight: 1, arbitrary: chain.map((one) => `-Z ${one}`) },
  { weight: 1, arbitrary: fc.constantFrom(':INPUT DROP [4:5]', ':OUTPUT - [0:0]', '-P OUTPUT DROP') },
);
const DECLARED = [':INPUT ACCEPT [1:2]', ':one - [0:0]', ':two - [0:0]', ':three - [0:0]'];
const randomCase: fc.Arbitrary<Case> = fc.record({
  // What is there jumps from chains to later ones only, so that it is taken; what comes need not.
  base: fc.array(appended, { maxLength: 6 }).map((lines) => {
    const sound = lines.filter((text) => !/-A (one|two|three) .*-[jg] (one|two|three)/.test(text));
    return filter(...DECLARED, ...sound);
  }),
  text: fc.array(line, { minLength: 1, maxLength: 6 }).map((lines) => filter(...lines)),
  noflush: fc.constantFrom(true, true, false),
  counters: fc.boolean(),
});
const RUNS = process.env.SLUICE_SOAK === '1' ? 2000 : 60;

describe.skipIf(iptablesMissing !== undefined)(
  `restoring on what is there${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    test.each(Object.keys(CASES))('%s', (name) => {
      for (const family of ['ipv4', 'ipv6'] as const) {
        const one = { base: BASE, ...CASES[name]! };
        expect(ourOutcome(one, family), family).toBe(kernelOutcome(one, family));
      }
    });

    test('random texts on random rules', { timeout: 1_200_000 }, () => {
      /** How many were refused, and how many done. */
      const outcomes = [0, 0];
      fc.assert(
        fc.property(randomCase, (one) => {
          const kernel = kernelOutcome(one, 'ipv4');
          expect(ourOutcome(one, 'ipv4')).toBe(kernel);
          outcomes[kernel === undefined ? 0 : 1]! += 1;
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
      expect(Math.min(...outcomes)).toBeGreaterThan(RUNS / 10);
    });
  },
);
