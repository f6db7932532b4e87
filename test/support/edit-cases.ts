/**
 * Runs of changes in live tables: after each the programs decide, mark, answer and count as the evaluator does with the rules
 * as they are then, and as tables made anew of them; rules that stay keep their counters; what the notes of the edits tell is
 * the text of a full load.
 */
import fc from 'fast-check';
import { type CompiledPolicy, entryIndex } from '../../src/compile/index.ts';
import type { ChainRename } from '../../src/host/policy/note.ts';
import { ruleLines } from '../../src/host/policy/rulelines.ts';
import type { RuleState } from '../../src/host/policy/rulestate.ts';
import { handedMark } from '../../src/host/replay/compiled.ts';
import { PolicyMachine } from '../../src/host/replay/machine.ts';
import {
  createHost,
  formatElement,
  type PlainSet,
  plainSets,
  printRuleset,
  type Ruleset,
  type SetContents,
  type SetElement,
} from '../../src/rules/index.ts';
import { writeHeaderChecksum } from './classbench.ts';
import { judge } from './compare.ts';
import {
  BUILT_IN,
  compile,
  Edited,
  type Model,
  parse,
  policyKey,
  SETS,
  STILL,
  type TableName,
  turns,
  USER,
} from './edited.ts';
import { packetsFor } from './generate/packets.ts';
import { buildPacket } from './generate/shape.ts';
import { worldRouting } from './generate/world.ts';

/** Steps after which tables made anew are asked, too: making them takes long. */
const ANEW = 20;

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
export const ruleOf = (table: TableName, sets: boolean, first: number): fc.Arbitrary<string> => {
  const targets = fc.oneof(
    { weight: 4, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: target(table, sets, first) },
  );
  return fc.tuple(condition(sets), targets).map(([asked, does]) => {
    const tcp = does.includes('tcp-reset') ? '-p tcp' : asked;
    return [tcp, does].filter(Boolean).join(' ');
  });
};

export interface Step {
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
    // A wrong one would be dropped before any rule.
    writeHeaderChecksum(bytes);
    return bytes;
  });
const packets = fc.tuple(
  packet,
  packet,
  packet,
  packetsFor({ family: 'ipv4', text: '', rules: [] } as never, { fragments: true }).map(buildPacket),
);
export const stepOf = (table: TableName, sets: boolean): fc.Arbitrary<Step> =>
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

/** How many changes were made in place, and why the others were not. */
export interface Outcome {
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

/** Makes the changes one after the other; what differs first, if anything does. */
export function runChanges(
  table: TableName,
  first: readonly string[],
  steps: readonly Step[],
  outcome: Outcome,
): string | undefined {
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
  let sets = plainSets(SETS);
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
      sets = plainSets(SETS);
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
    if (live.text !== printRuleset(ruleset)) return `step ${number}: the text is ${live.text}`;
    const anew =
      number % ANEW === ANEW - 1
        ? new PolicyMachine(compile(ruleset), { sets: contentsOf(sets), clock: STILL })
        : live.machine;
    const difference = check(live, anew, counted, ruleset, sets, one.packets);
    if (difference !== undefined) return `step ${number}: ${difference}`;
  }
  return undefined;
}

/** The sets as they have become. */
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
): string | undefined {
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
      const edited = judgeBy(live.machine, live.state, place, asked);
      const fresh = anew === live.machine ? wanted : judgeBy(anew, live.state, place, asked);
      const [said, right] = [
        { edited, fresh },
        { edited: wanted, fresh: wanted },
      ].map((one) => JSON.stringify(one));
      if (said !== right)
        return `packet ${Buffer.from(bytes).toString('hex')} at hook ${hook}: ${said} for ${right}`;
    }
  }
  for (const { definition, elements } of contentsOf(sets)) {
    const lines = (all: Iterable<SetElement>): string =>
      Array.from(all, (element) => formatElement(definition, element))
        .sort()
        .join('\n');
    for (const machine of new Set([live.machine, anew])) {
      const kept = lines(machine.sets.get(definition.name)!.elements());
      if (kept !== lines(elements)) return `set ${definition.name}: ${kept} for ${lines(elements)}`;
    }
  }
  const found = live.counts();
  const now = new Map<string, Counts>();
  const note = (key: string, { packets: count, bytes }: Counts): void => {
    const before = counted.get(key) ?? { packets: 0n, bytes: 0n };
    now.set(key, { packets: before.packets + count, bytes: before.bytes + bytes });
  };
  for (const chain of ruleset.tables[0]!.chains) {
    const lines = printedLines(ruleset, chain.name);
    const evaluated = host.tables.get(name)!.chains.get(chain.name)!;
    for (const [index, key] of turns(lines).entries()) {
      note(key, evaluated.rules[index]!.counters);
    }
    const key = policyKey(chain.name, chain.policy ?? '-');
    // Chains that no program runs do not count.
    if (found.has(key)) note(key, evaluated.policyCounters);
  }
  counted.clear();
  for (const [key, counts] of now) counted.set(key, counts);
  const keys = new Set([...found.keys(), ...now.keys()]);
  for (const key of keys) {
    const wanted = now.get(key);
    const expected = wanted === undefined ? undefined : `${wanted.packets}:${wanted.bytes}`;
    if (found.get(key) !== expected) return `${key} has counted ${found.get(key)} for ${expected}`;
  }
  return undefined;
}

function printedLines(ruleset: Ruleset, chain: string): readonly string[] {
  return ruleLines([{ family: 'ipv4', text: printRuleset(ruleset) }]).get(
    `ipv4 ${ruleset.tables[0]!.name} ${chain}`,
  )!.lines;
}
