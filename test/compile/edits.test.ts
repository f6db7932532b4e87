/**
 * Long runs of changes in live tables: after each the programs decide, mark, answer and count as the evaluator does with the
 * rules as they are then, and as tables made anew of them; rules that stay keep their counters; what the notes of the edits
 * tell is the text of a full load. SLUICE_SOAK=1 multiplies the runs.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CallsCache,
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  lowerRule,
} from '../../src/compile/index.ts';
import { chainCounters } from '../../src/host/policy/apply.ts';
import { diffChains } from '../../src/host/policy/chaindiff.ts';
import type { GenerationDocument } from '../../src/host/policy/document.ts';
import { LoadWhole } from '../../src/host/policy/editplan.ts';
import { type ChainRename, decodeNote, encodeNote } from '../../src/host/policy/note.ts';
import { ruleLines } from '../../src/host/policy/rulelines.ts';
import { RuleState } from '../../src/host/policy/rulestate.ts';
import { writeEdit } from '../../src/host/policy/tableedit.ts';
import { handedMark } from '../../src/host/replay/compiled.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import type { Hook } from '../../src/ir/index.ts';
import {
  createHost,
  formatElement,
  PlainSet,
  parseRuleset,
  parseSets,
  placesInOrder,
  printRuleset,
  type Ruleset,
  type SetContents,
  type SetElement,
} from '../../src/rules/index.ts';
import { judge } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 200 : 2;
const STEPS = 60;
/** Steps after which tables made anew are asked, too: making them takes long. */
const ANEW = 20;

type TableName = 'filter' | 'mangle';
/** Hooks of the built-in chains that have rules, with the devices of a packet there. */
const BUILT_IN = {
  INPUT: { hook: 1 as Hook, outDevice: '' },
  FORWARD: { hook: 2 as Hook, outDevice: 'eth1' },
} as const;
const USER = 5;

const SETS = parseSets(
  'create s hash:ip timeout 0\nadd s 192.1.1.1\nadd s 192.2.2.2\ncreate few hash:ip maxelem 1\ncreate l list:set\nadd l few\nadd l s\n',
  { file: 'sets' },
).sets;
const PLACES = placesInOrder(SETS);

const address = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(8, 16, 24, 32)).map(([n, bits]) => {
  const bytes = [192, n, n, n].map((byte, index) => (index * 8 < bits ? byte : 0));
  return `${bytes.join('.')}/${bits}`;
});
const port = fc.integer({ min: 1, max: 4 });
const condition = (sets: boolean): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constant(''),
    address.map((one) => `-s ${one}`),
    address.map((one) => `! -d ${one}`),
    port.map((one) => `-p tcp -m tcp --dport ${one}:${one + 1}`),
    port.map((one) => `-p udp -m udp ! --sport ${one}`),
    fc.tuple(address, port).map(([one, other]) => `-s ${one} -p udp -m udp --dport ${other}`),
    fc.constantFrom(
      '-f',
      '-i eth0',
      '-p icmp',
      '-p tcp -m tcp --tcp-flags SYN,ACK SYN',
      '-p tcp -m tcp --tcp-option 2',
      '-m ttl --ttl-lt 5',
      '-m mark --mark 0x1/0x1',
      ...(sets ? ['-m set --match-set s src', '-m set ! --match-set s dst'] : []),
    ),
  );
const SET_TARGETS = [
  '-j SET --add-set s src',
  '-j SET --add-set s dst --exist --timeout 9',
  '-j SET --del-set s src',
  '-j SET --add-set l src --del-set s dst',
];
/** `@n` is the user chain of that number, by the name that it has. */
const target = (table: TableName, sets: boolean, first: number): fc.Arbitrary<string> => {
  const calls = Array.from({ length: USER - first }, (_, at) => first + at);
  const own =
    table === 'filter'
      ? ['-j REJECT', '-j REJECT --reject-with tcp-reset', '-j REJECT --reject-with icmp-host-prohibited']
      : ['-j MARK --set-xmark 0x1/0x1', '-j MARK --set-xmark 0x6/0x0', '-j MARK --set-xmark 0x5/0xffffffff'];
  return fc.constantFrom(
    '-j ACCEPT',
    '-j DROP',
    '-j RETURN',
    '-j LOG --log-prefix "a rule "',
    ...own,
    ...(sets ? SET_TARGETS : []),
    ...calls.flatMap((call) => [`-j @${call}`, `-j @${call}`, `-g @${call}`]),
  );
};
/** Most rules count and let the packet go on, so that it comes to the end of long chains. `first`: of the chains it may call. */
const ruleOf = (table: TableName, sets: boolean, first: number): fc.Arbitrary<string> => {
  const targets = fc.oneof(
    { weight: 4, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: target(table, sets, first) },
  );
  return fc.tuple(condition(sets), targets).map(([asked, does]) => {
    const tcp = does.includes('tcp-reset') ? '-p tcp' : asked;
    return [tcp, does].filter(Boolean).join(' ');
  });
};

interface Step {
  readonly chain: 'INPUT' | 'FORWARD' | number;
  readonly kind:
    | 'insert'
    | 'append'
    | 'delete'
    | 'replace'
    | 'move'
    | 'policy'
    | 'flush'
    | 'drop-chain'
    | 'rename';
  readonly at: number;
  readonly to: number;
  readonly texts: readonly string[];
  readonly packets: readonly Uint8Array[];
}

/** IPv4 packets that the conditions are about: TCP, UDP or ICMP, now and then a later fragment or cut short. */
const packet = fc
  .record({
    protocol: fc.constantFrom(1, 6, 17),
    source: fc.integer({ min: 1, max: 4 }),
    destination: fc.integer({ min: 1, max: 4 }),
    ports: fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })),
    flags: fc.constantFrom(0x02, 0x10, 0x12),
    ttl: fc.constantFrom(3, 64),
    fragment: fc.constantFrom(0, 0, 0, 0, 100),
    length: fc.constantFrom(40, 40, 40, 40, 30, 24),
  })
  .map(({ protocol, source, destination, ports, flags, ttl, fragment, length }) => {
    const bytes = new Uint8Array(length);
    const header = [0x45, 0, 0, length, 0, 1, fragment >> 8, fragment & 255, ttl, protocol, 0, 0];
    const addresses = [192, source, source, source, 192, destination, destination, destination];
    const transport = [0, ports[0], 0, ports[1], 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags];
    bytes.set([...header, ...addresses, ...transport].slice(0, length));
    return bytes;
  });
const packets = fc.tuple(
  packet,
  packet,
  packet,
  packetsFor({ family: 'ipv4', text: '', rules: [] } as never, { fragments: true }).map(buildPacket),
);
const stepOf = (table: TableName, sets: boolean): fc.Arbitrary<Step> =>
  fc
    .oneof(
      { weight: 3, arbitrary: fc.constantFrom('INPUT' as const, 'FORWARD' as const) },
      { weight: 2, arbitrary: fc.nat(USER - 1) },
    )
    .chain((chain) =>
      fc.record({
        chain: fc.constant(chain),
        kind: fc.constantFrom(
          ...(['insert', 'insert', 'append', 'append', 'delete', 'delete', 'replace', 'move'] as const),
          ...(['move', 'policy', 'flush', 'drop-chain', 'rename'] as const),
        ),
        at: fc.nat(1000),
        to: fc.nat(1000),
        texts: fc.array(ruleOf(table, sets, typeof chain === 'number' ? chain + 1 : 0), {
          minLength: 1,
          maxLength: 6,
        }),
        packets,
      }),
    );

/** Rules by chain; user chains by number, where they are there, and their names. */
interface Model {
  readonly table: TableName;
  readonly builtIn: Record<'INPUT' | 'FORWARD', { rules: string[]; policy: 'ACCEPT' | 'DROP' }>;
  readonly user: (string[] | undefined)[];
  readonly names: string[];
}

function textOf({ table, builtIn, user, names }: Model): string {
  const line = (text: string): string => text.replace(/@(\d)/, (_, number) => names[Number(number)]!);
  const chains = [
    ...Object.entries(builtIn),
    ...user.flatMap((rules, number) =>
      rules === undefined ? [] : [[names[number]!, { rules, policy: '-' }] as const],
    ),
  ];
  return [
    `*${table}`,
    ...chains.map(([name, { policy }]) => `:${name} ${policy} [0:0]`),
    ...chains.flatMap(([name, { rules }]) => rules.map((rule) => `-A ${name} ${line(rule)}`)),
    'COMMIT',
    '',
  ].join('\n');
}

function parse(model: Model): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(textOf(model), { file: 'edited', family: 'ipv4' });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return ruleset;
}

const compile = (ruleset: Ruleset): CompiledPolicy =>
  compilePolicy([ruleset], {
    hooks: ['netfilter'],
    hz: MACHINE_HZ,
    strategy: 'classifier',
    sets: PLACES,
  });

const clock = { monotonicNs: () => 0n };

/** Tables with room for edits. */
class Edited {
  readonly machine: PolicyMachine;
  readonly state: RuleState;
  readonly #loaded: GenerationDocument;
  readonly #cache: CallsCache = new Map();
  #number = 1;

  constructor(ruleset: Ruleset) {
    const policy = compile(ruleset);
    const room = { bytes: 2 << 20, counters: 600, state: 64 };
    this.machine = new PolicyMachine(policy, { room, sets: SETS, clock });
    this.#loaded = {
      rulesets: [{ family: 'ipv4', text: printRuleset(ruleset) }],
      chains: chainCounters(policy),
      coded: policy.coded,
      logs: policy.logs,
      counters: policy.counters,
      aids: { conntrack: false, chains: [], marks: policy.marks, rejects: policy.rejects },
      members: [{ cookie: '1', number: 1, links: [] }],
      appliedMs: 0,
    } as unknown as GenerationDocument;
    this.state = new RuleState(this.#loaded);
  }

  /** The reason when the change is not made in place. */
  change(wanted: Ruleset, renamed: readonly ChainRename[]): string | undefined {
    const { root, arena, policy } = this.machine;
    const before = new RuleState(this.#document);
    before.apply({ appliedMs: 0, renamed, chains: [], members: [] });
    const lines = ruleLines([{ family: 'ipv4', text: printRuleset(wanted) }]);
    const differences = diffChains(before.chains, lines);
    if (typeof differences === 'string') return differences;
    const table = wanted.tables[0]!;
    this.#number += 1;
    try {
      const { edits, note } = writeEdit({
        arena,
        roots: [{ cookie: 1n, root, number: this.#number }],
        points: policy.programs.map(({ point }) => point),
        hz: MACHINE_HZ,
        state: this.state,
        plan: {
          renamed,
          ...differences,
          rule: (_family, _table, name, index) => {
            const chain = table.chains.find((one) => one.name === name)!;
            return lowerRule(table, chain, index, 'ipv4', PLACES)!;
          },
          asksConntrack: false,
        },
        cache: this.#cache,
      });
      this.machine.commit(edits[0]!.root);
      this.state.apply(decodeNote(encodeNote(note)));
      return undefined;
    } catch (error) {
      if (!(error instanceof LoadWhole)) throw error;
      return error.message;
    }
  }

  get #document(): GenerationDocument {
    return this.state.document(this.#loaded);
  }

  get text(): string {
    return this.#document.rulesets[0]!.text;
  }

  /** Packets and bytes by rule and turn, see {@link countsOf}. */
  counts(): Map<string, string> {
    const counted = new Map<string, string>();
    for (const chain of this.state.chains.values()) {
      for (const [index, key] of turns(chain.lines).entries()) {
        const { packets: count, bytes } = this.machine.counter(chain.counters[index]!);
        counted.set(key, `${count}:${bytes}`);
      }
    }
    return counted;
  }
}

/** Each line with how many before say the same: what a counter belongs to. */
function turns(lines: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return lines.map((line) => {
    const turn = seen.get(line) ?? 0;
    seen.set(line, turn + 1);
    return `${line} ${turn}`;
  });
}

interface Outcome {
  edits: number;
  readonly reasons: string[];
}

/** Changes the model; `undefined`: nothing to be done. */
function takeStep(
  model: Model,
  { chain, kind, at, to, texts }: Step,
): { readonly renamed?: ChainRename } | undefined {
  const { builtIn, user, names, table } = model;
  // Chains that rules name come with them.
  const named = (rules: readonly string[]): void => {
    for (const rule of rules) {
      const number = /@(\d)/.exec(rule)?.[1];
      if (number !== undefined) user[Number(number)] ??= [];
    }
  };
  if (typeof chain === 'number' && user[chain] === undefined) {
    user[chain] = [...texts];
    named(texts);
    return {};
  }
  if (typeof chain === 'number' && kind === 'rename') {
    const from = names[chain]!;
    const name = `${from.startsWith('u') ? 'w' : 'u'}${chain}`;
    names[chain] = name;
    return { renamed: { family: 'ipv4', table, chain: from, to: name } };
  }
  if (typeof chain === 'number' && kind === 'drop-chain') {
    user[chain] = undefined;
    const without = (rules: readonly string[]): string[] =>
      rules.filter((rule) => !rule.endsWith(`@${chain}`));
    for (const one of Object.values(builtIn)) one.rules = without(one.rules);
    for (const [number, rules] of user.entries()) if (rules !== undefined) user[number] = without(rules);
    return {};
  }
  const rules = typeof chain === 'number' ? user[chain]! : builtIn[chain].rules;
  const place = kind === 'append' ? rules.length : at % (rules.length + (kind === 'insert' ? 1 : 0) || 1);
  switch (kind) {
    case 'policy':
      if (typeof chain === 'number') return undefined;
      builtIn[chain].policy = builtIn[chain].policy === 'ACCEPT' ? 'DROP' : 'ACCEPT';
      return {};
    case 'insert':
    case 'append':
      rules.splice(place, 0, ...texts);
      named(texts);
      return {};
    case 'flush':
      // Of long chains a part.
      if (rules.length === 0) return undefined;
      rules.splice(place, 20);
      return {};
    case 'delete':
    case 'replace':
      if (rules.length === 0) return undefined;
      rules.splice(place, 1, ...(kind === 'replace' ? texts.slice(0, 1) : []));
      named(texts.slice(0, 1));
      return {};
    case 'move': {
      if (rules.length === 0) return undefined;
      const taken = rules.splice(place, 1 + (to % 40));
      rules.splice(to % (rules.length + 1), 0, ...taken);
      return {};
    }
    default:
      return undefined;
  }
}

function run(table: TableName, first: readonly string[], steps: readonly Step[], outcome: Outcome): void {
  const model: Model = {
    table,
    builtIn: {
      INPUT: { rules: [...first, '-s 10.1.1.1/32 -j @0', '-j @1'], policy: 'ACCEPT' },
      FORWARD: { rules: ['-j @1'], policy: 'ACCEPT' },
    },
    user: [['-j @1', '-p tcp'], ['-p udp'], undefined, undefined, undefined],
    names: Array.from({ length: USER }, (_, number) => `u${number}`),
  };
  for (const rule of first) {
    const number = /@(\d)/.exec(rule)?.[1];
    if (number !== undefined) model.user[Number(number)] ??= [];
  }
  let live = new Edited(parse(model));
  let sets = plainSets();
  const counted = new Map<string, Counts>();
  for (const [number, one] of steps.entries()) {
    const done = takeStep(model, one);
    if (done === undefined) continue;
    const renamed = done.renamed === undefined ? [] : [done.renamed];
    const ruleset = parse(model);
    const reason = live.change(ruleset, renamed);
    if (reason === undefined) outcome.edits += 1;
    else {
      outcome.reasons.push(reason);
      live = new Edited(ruleset);
      sets = plainSets();
      counted.clear();
    }
    for (const { chain, to } of renamed) {
      for (const [key, counts] of [...counted]) {
        const after = key
          .replace(`-A ${chain} `, `-A ${to} `)
          .replace(new RegExp(` ${chain} (\\d+)$`), ` ${to} $1`);
        counted.delete(key);
        counted.set(after, counts);
      }
    }
    expect(live.text).toBe(printRuleset(ruleset));
    const anew =
      number % ANEW === ANEW - 1
        ? new PolicyMachine(compile(ruleset), { sets: contentsOf(sets), clock })
        : live.machine;
    check(live, anew, counted, ruleset, sets, one.packets);
  }
}

/** The sets as they are loaded, for the evaluator; and as they have become. */
function plainSets(): Map<string, PlainSet> {
  return new Map(
    SETS.map(({ definition, elements }) => [definition.name, new PlainSet(definition, elements)]),
  );
}
function contentsOf(sets: ReadonlyMap<string, PlainSet>): SetContents[] {
  return SETS.map(({ definition }) => ({ definition, elements: sets.get(definition.name)!.elements(0) }));
}

interface Counts {
  packets: bigint;
  bytes: bigint;
}

/** What the machine says of a packet, its action chain carried out. */
function judgeBy(
  machine: PolicyMachine,
  live: RuleState,
  place: number,
  input: Parameters<PolicyMachine['run']>[1],
): unknown {
  const ran = machine.run(place, input);
  // A chain without rules that accepts has no program.
  if (ran === undefined) return { verdict: 'ACCEPT', mark: input.mark ?? 0 };
  const reject = Number(ran.handed & 0xffn);
  const verdict = !ran.accepted ? 'DROP' : reject === 0 ? 'ACCEPT' : 'REJECT';
  const marks = machine.policy.marks;
  const { aids } = live;
  const known = { marks: { bits: marks.bits | aids.marks.bits, whole: marks.whole || aids.marks.whole } };
  const mark = handedMark(known as CompiledPolicy, ran.handed, input.mark ?? 0);
  return {
    verdict,
    ...(verdict === 'ACCEPT' ? { mark } : {}),
    ...(verdict === 'REJECT' ? { reject: reject - 1 } : {}),
  };
}

/** Verdicts of edited tables, of tables made anew and of the evaluator; what every rule has counted since it came. */
function check(
  live: Edited,
  anew: PolicyMachine,
  counted: Map<string, Counts>,
  ruleset: Ruleset,
  sets: Map<string, PlainSet>,
  sent: readonly Uint8Array[],
): void {
  const { name } = ruleset.tables[0]!;
  const host = createHost({
    ruleset,
    routing: worldRouting('ipv4'),
    nowMs: () => 0,
    random32: () => 0,
    sets,
  });
  for (const bytes of sent) {
    for (const { hook, outDevice } of Object.values(BUILT_IN)) {
      const input = { bytes, hook, inDevice: 'eth0', outDevice, mark: 0x12 } as const;
      const expected = judge(host, ruleset, input);
      if (expected === undefined) continue;
      const place = entryIndex({ flavour: 'netfilter', group: name as TableName, family: 'ipv4', hook });
      const asked = { ...input, family: 'ipv4' } as const;
      const { verdict, mark, reject } = expected;
      const wanted = {
        verdict,
        ...(verdict === 'ACCEPT' ? { mark } : {}),
        ...(verdict === 'REJECT' ? { reject } : {}),
      };
      const where = { packet: Buffer.from(bytes).toString('hex'), hook };
      const edited = judgeBy(live.machine, live.state, place, asked);
      const fresh = anew === live.machine ? wanted : judgeBy(anew, live.state, place, asked);
      expect({ ...where, edited, fresh }).toEqual({ ...where, edited: wanted, fresh: wanted });
    }
  }
  for (const { definition, elements } of contentsOf(sets)) {
    const lines = (all: Iterable<SetElement>): string[] =>
      Array.from(all, (element) => formatElement(definition, element)).sort();
    for (const machine of new Set([live.machine, anew]))
      expect(lines(machine.sets.get(definition.name)!.elements())).toEqual(lines(elements));
  }
  const now = new Map<string, Counts>();
  for (const chain of ruleset.tables[0]!.chains) {
    const lines = printedLines(ruleset, chain.name);
    const evaluated = host.tables.get(name)!.chains.get(chain.name)!;
    for (const [index, key] of turns(lines).entries()) {
      const { packets: count, bytes } = evaluated.rules[index]!.counters;
      const before = counted.get(key) ?? { packets: 0n, bytes: 0n };
      now.set(key, { packets: before.packets + count, bytes: before.bytes + bytes });
    }
  }
  counted.clear();
  for (const [key, counts] of now) counted.set(key, counts);
  const expected = new Map([...now].map(([key, { packets: count, bytes }]) => [key, `${count}:${bytes}`]));
  expect(live.counts()).toEqual(expected);
}

function printedLines(ruleset: Ruleset, chain: string): readonly string[] {
  return ruleLines([{ family: 'ipv4', text: printRuleset(ruleset) }]).get(
    `ipv4 ${ruleset.tables[0]!.name} ${chain}`,
  )!.lines;
}

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
    const property = fc.property(cases, ([rules, steps]) => run(table, rules, steps, outcome));
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
