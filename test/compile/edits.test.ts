/**
 * Long runs of changes in live tables: after each the programs decide and count as the evaluator does with the rules as
 * they are then, and as tables made anew of them; rules that stay keep their counters. SLUICE_SOAK=1 multiplies the runs.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CallsCache,
  type CompiledPolicy,
  compilePolicy,
  editTables,
  entryIndex,
  keyOf,
  type Piece,
  SYSTEM_COUNTERS,
  takeCounters,
} from '../../src/compile/index.ts';
import { lowerTable } from '../../src/compile/lower/table.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import type { IrTable } from '../../src/ir/index.ts';
import { createHost, parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { judge } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 300 : 3;
const STEPS = 60;
/** Steps after which tables made anew are asked, too: making them takes long. */
const ANEW = 20;
const INPUT = 1;
const PLACE = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: INPUT });

const address = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(8, 16, 24, 32)).map(([n, bits]) => {
  const bytes = [192, n, n, n].map((byte, index) => (index * 8 < bits ? byte : 0));
  return `${bytes.join('.')}/${bits}`;
});
const port = fc.integer({ min: 1, max: 4 });
const condition = fc.oneof(
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
  ),
);
/** Chains may call those behind them. */
const CHAINS = ['INPUT', 'one', 'two'] as const;
type ChainName = (typeof CHAINS)[number];
const TARGETS: Readonly<Record<ChainName, readonly string[]>> = {
  INPUT: ['-j ACCEPT', '-j DROP', '-j RETURN', '-j one', '-g one', '-j two'],
  one: ['-j ACCEPT', '-j DROP', '-j RETURN', '-j two'],
  two: ['-j ACCEPT', '-j DROP', '-j RETURN'],
};
/** Most rules count and let the packet go on, so that it comes to the end of long chains. */
const ruleOf = (chain: ChainName): fc.Arbitrary<string> => {
  const target = fc.oneof(
    { weight: 12, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: fc.constantFrom(...TARGETS[chain]) },
  );
  return fc.tuple(condition, target).map((parts) => parts.filter(Boolean).join(' '));
};

interface Step {
  readonly chain: ChainName;
  readonly kind: 'insert' | 'append' | 'delete' | 'replace' | 'move' | 'policy';
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
const step: fc.Arbitrary<Step> = fc.constantFrom(...CHAINS, 'INPUT' as const).chain((chain) =>
  fc.record({
    chain: fc.constant(chain),
    kind: fc.constantFrom('insert', 'append', 'append', 'delete', 'replace', 'move', 'policy' as const),
    at: fc.nat(1000),
    to: fc.nat(1000),
    texts: fc.array(ruleOf(chain), { minLength: 1, maxLength: 6 }),
    packets,
  }),
);

/** A rule with what its counter has counted so far. */
interface Counted {
  readonly text: string;
  packets: bigint;
  bytes: bigint;
}
const fresh = (text: string): Counted => ({ text, packets: 0n, bytes: 0n });

interface Model {
  readonly rules: Record<ChainName, Counted[]>;
  policy: 'ACCEPT' | 'DROP';
}

function parse({ rules, policy }: Model): Ruleset {
  const lines = CHAINS.flatMap((chain) => rules[chain].map(({ text }) => `-A ${chain} ${text}`));
  const text = `*filter\n:INPUT ${policy} [0:0]\n:one - [0:0]\n:two - [0:0]\n${lines.join('\n')}\nCOMMIT\n`;
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'edited', family: 'ipv4' });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return ruleset;
}

const compile = (ruleset: Ruleset): CompiledPolicy =>
  compilePolicy([ruleset], { hooks: ['netfilter'], hz: MACHINE_HZ, strategy: 'classifier' });
const lower = ({ tables, family }: Ruleset): IrTable => lowerTable(tables[0]!, family).ir;

/** Tables with room for edits, and which counter is whose. */
class Edited {
  readonly machine: PolicyMachine;
  readonly counters: Record<ChainName, number[]>;
  policyCounter: number;
  readonly #policy: CompiledPolicy;
  readonly #cache: CallsCache = new Map();
  #number = 1n;

  constructor(policy: CompiledPolicy) {
    this.#policy = policy;
    this.machine = new PolicyMachine(policy, { room: { bytes: 2 << 20, counters: 600, state: 64 } });
    const { ir, firstCounter } = policy.tables[0]!;
    const first = SYSTEM_COUNTERS + firstCounter;
    const of = (chain: ChainName): number[] =>
      ir.chains.get(chain)!.rules.map(({ counter }) => first + counter);
    this.counters = { INPUT: of('INPUT'), one: of('one'), two: of('two') };
    this.policyCounter = first + ir.chains.get('INPUT')!.policy!.counter;
  }

  /** The reason when the change is not made in place. */
  change(
    chain: ChainName,
    kept: readonly (number | undefined)[],
    wanted: IrTable,
    verdict: 'accept' | 'drop' | undefined,
  ): string | undefined {
    const { root, arena } = this.machine;
    const needed = kept.filter((from) => from === undefined).length + (verdict === undefined ? 0 : 1);
    let counter = takeCounters(arena, root, needed);
    if (counter === undefined) return 'counters';
    const own = this.counters[chain];
    const { rules } = wanted.chains.get(chain)!;
    const pieces: Piece[] = [];
    const counters: number[] = [];
    for (const [index, from] of kept.entries()) {
      counters.push(from === undefined ? counter : own[from]!);
      if (from === undefined) {
        pieces.push({ rule: rules[index]!, counter });
        counter += 1;
        continue;
      }
      const last = pieces.at(-1);
      if (last !== undefined && 'from' in last && last.to === from)
        pieces[pieces.length - 1] = { from: last.from, to: from + 1 };
      else pieces.push({ from, to: from + 1 });
    }
    const numbers = new Map(
      this.#policy.chains.map((one) => [keyOf(one.family, one.table, one.chain), one.number]),
    );
    const policy = verdict === undefined ? {} : { policy: { verdict, counter } };
    this.#number += 1n;
    const edit = editTables(
      arena,
      {
        root,
        number: this.#number,
        edits: [{ family: 'ipv4', table: 'filter', chain, builtIn: chain === 'INPUT', pieces, ...policy }],
        numbers,
        points: this.#policy.programs.map(({ point }) => point),
        rejects: this.#policy.rejects,
        hz: MACHINE_HZ,
        ruleAt: (_, index) => rules[index]!,
      },
      this.#cache,
    );
    if ('reason' in edit) return edit.reason;
    if (verdict !== undefined) this.policyCounter = counter;
    this.counters[chain] = counters;
    this.machine.commit(edit.root);
    return undefined;
  }

  count(chain: ChainName): { packets: bigint; bytes: bigint }[] {
    return this.counters[chain].map((counter) => this.machine.counter(counter));
  }
}

interface Outcome {
  edits: number;
  readonly reasons: string[];
}

/** Each rule of the chain as it shall be: its place in the chain as it is, or undefined. Changes the model. */
function takeStep(model: Model, { chain, kind, at, to, texts }: Step): (number | undefined)[] | undefined {
  const rules = model.rules[chain];
  const kept: (number | undefined)[] = rules.map((_, index) => index);
  const place = kind === 'append' ? rules.length : at % (rules.length + (kind === 'insert' ? 1 : 0) || 1);
  if (kind === 'policy') {
    if (chain !== 'INPUT') return undefined;
    model.policy = model.policy === 'ACCEPT' ? 'DROP' : 'ACCEPT';
    return kept;
  }
  if (kind === 'insert' || kind === 'append') {
    rules.splice(place, 0, ...texts.map(fresh));
    kept.splice(place, 0, ...texts.map(() => undefined));
    return kept;
  }
  if (rules.length === 0) return undefined;
  const several = kind === 'move' ? 1 + (to % 12) : 1;
  const taken = rules.splice(place, several);
  const places = kept.splice(place, several);
  if (kind === 'replace') {
    rules.splice(place, 0, fresh(texts[0]!));
    kept.splice(place, 0, undefined);
  } else if (kind === 'move') {
    const target = to % (rules.length + 1);
    rules.splice(target, 0, ...taken);
    kept.splice(target, 0, ...places);
  }
  return kept;
}

function run(first: readonly string[], steps: readonly Step[], outcome: Outcome): void {
  const model: Model = {
    rules: {
      INPUT: [...first, '-s 10.1.1.1/32 -j one', '-j two'].map(fresh),
      one: ['-j two', '-p tcp'].map(fresh),
      two: ['-p udp'].map(fresh),
    },
    policy: 'ACCEPT',
  };
  let live = new Edited(compile(parse(model)));
  for (const [number, one] of steps.entries()) {
    const kept = takeStep(model, one);
    if (kept === undefined) continue;
    const ruleset = parse(model);
    const verdict = one.kind !== 'policy' ? undefined : model.policy === 'ACCEPT' ? 'accept' : 'drop';
    const reason = live.change(one.chain, kept, lower(ruleset), verdict);
    if (reason === undefined) outcome.edits += 1;
    else {
      outcome.reasons.push(reason);
      live = new Edited(compile(ruleset));
      for (const rules of Object.values(model.rules))
        for (const [index, { text }] of rules.entries()) rules[index] = fresh(text);
    }
    const anew = number % ANEW === ANEW - 1 ? new PolicyMachine(compile(ruleset)) : live.machine;
    check(live, anew, model, ruleset, one.packets);
  }
}

/** Verdicts of edited tables, of tables made anew and of the evaluator; what every rule has counted since it came. */
function check(
  live: Edited,
  anew: PolicyMachine,
  model: Model,
  ruleset: Ruleset,
  sent: readonly Uint8Array[],
): void {
  const host = createHost({ ruleset, routing: worldRouting('ipv4'), nowMs: () => 0, random32: () => 0 });
  for (const bytes of sent) {
    const input = { bytes, hook: INPUT, inDevice: 'eth0', outDevice: '' } as const;
    const expected = judge(host, ruleset, input);
    if (expected === undefined) continue;
    const packet = { ...input, family: 'ipv4' } as const;
    const accepted = expected.verdict === 'ACCEPT';
    const verdicts = {
      packet: Buffer.from(bytes).toString('hex'),
      edited: live.machine.run(PLACE, packet)?.accepted,
      anew: anew === live.machine ? accepted : anew.run(PLACE, packet)?.accepted,
    };
    expect(verdicts).toEqual({ ...verdicts, edited: accepted, anew: accepted });
  }
  for (const chain of CHAINS) {
    const counted = host.tables.get('filter')!.chains.get(chain)!;
    for (const [index, { counters }] of counted.rules.entries()) {
      const rule = model.rules[chain][index]!;
      rule.packets += counters.packets;
      rule.bytes += counters.bytes;
    }
    const expected = model.rules[chain].map(({ packets: count, bytes }) => ({ packets: count, bytes }));
    expect({ chain, counts: live.count(chain) }).toEqual({ chain, counts: expected });
  }
}

for (const [form, size] of [
  ['linear', 2],
  ['vectors', 100],
] as const) {
  test(`runs of changes in a chain of ${form}`, () => {
    const outcome: Outcome = { edits: 0, reasons: [] };
    const cases = fc.tuple(
      fc.array(ruleOf('INPUT'), { minLength: size, maxLength: size }),
      fc.array(step, { minLength: STEPS, maxLength: STEPS }),
    );
    const property = fc.property(cases, ([first, steps]) => run(first, steps, outcome));
    fc.assert(property, { numRuns: RUNS, endOnFailure: true });
    expect(outcome.edits).toBeGreaterThan(outcome.reasons.length * 10);
  }, 120_000);
}
