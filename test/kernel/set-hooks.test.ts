/**
 * Sets that rules ask for and change at xdp, tcx and cgroup, as tables and as code: test runs of the kernel give the evaluator's
 * verdicts and counters, and leave the same sets. SLUICE_SOAK=1 multiplies the cases, and has both families everywhere.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  GENERATIONS_OFFSET,
  type HookName,
  SET_RECORD_SIZE,
  SETS_OFFSET,
  type SetMemory,
  SetTable,
  type StrategyName,
} from '../../src/compile/index.ts';
import { installSets } from '../../src/host/replay/sets.ts';
import type { Hook } from '../../src/ir/index.ts';
import { encodeProgram } from '../../src/isa/index.ts';
import type { Family } from '../../src/net/index.ts';
import {
  createHost,
  formatElement,
  parseRuleset,
  parseSets,
  placesInOrder,
  plainSets,
  type SetContents,
  type SetDefinition,
  type SetElement,
} from '../../src/rules/index.ts';
import { evaluatorCounts, judge, programCounts } from '../support/compare.ts';
import { worldRouting } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';
import { HEADERS, type PacketShape, packetFor } from '../support/set-packets.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
/** Rulesets at each hook as tables, whose program is loaded once, and as code. */
const CASES: Readonly<Record<StrategyName, number>> = SOAK
  ? { classifier: 400, inline: 60 }
  : { classifier: 4, inline: 2 };
const PACKETS = 40;
/** For the tables of a case and its sets. */
const ROOM = 4 << 20;
const ETHERTYPES = { ipv4: [0x08, 0x00], ipv6: [0x86, 0xdd] } as const;

const PLACES: readonly {
  readonly name: HookName;
  readonly place: number;
  readonly chain: 'INPUT' | 'OUTPUT';
  readonly hook: Hook;
  readonly accept: number;
}[] = [
  { name: 'xdp', place: entryIndex({ flavour: 'xdp' }), chain: 'INPUT', hook: 1, accept: 2 },
  ...(['ingress', 'egress'] as const).flatMap((direction) => {
    const [chain, hook] = direction === 'ingress' ? (['INPUT', 1] as const) : (['OUTPUT', 3] as const);
    return [
      {
        name: `tcx-${direction}` as const,
        place: entryIndex({ flavour: 'tcx', direction }),
        chain,
        hook,
        accept: 0xffff_ffff,
      },
      {
        name: `cgroup-${direction}` as const,
        place: entryIndex({ flavour: 'cgroup', direction }),
        chain,
        hook,
        accept: 1,
      },
    ];
  }),
];
type Place = (typeof PLACES)[number];

const V4 = { ip: '10.0.0.1', other: '10.0.1.2', net: '10.0.0.0/24', inet: 'inet' };
const V6 = { ip: '2001:db8::1', other: '2001:db8:1::2', net: '2001:db8::/48', inet: 'inet6' };

/** Types with entries that packets may have. */
function kinds(
  family: Family,
  place: Place,
): readonly (readonly [type: string, entries: readonly string[]])[] {
  const { ip, other, net, inet } = family === 'ipv4' ? V4 : V6;
  const bitmaps: readonly (readonly [string, readonly string[]])[] = [
    ['bitmap:ip range 10.0.0.0/23', [ip, other]],
    // Frames of test runs have MAC addresses at xdp alone.
    ...(place.name === 'xdp'
      ? ([
          ['bitmap:ip,mac range 10.0.0.0/23', [ip, `${other},02:00:00:00:00:01`]],
          [`hash:ip,mac family ${inet}`, [`${ip},02:00:00:00:00:01`]],
        ] as const)
      : []),
  ];
  return [
    [`hash:ip family ${inet}`, [ip, other]],
    [`hash:net family ${inet}`, [net, other]],
    [`hash:ip,port family ${inet}`, [`${ip},tcp:80`, `${other},udp:53`]],
    [`hash:net,port family ${inet}`, [`${net},tcp:80`, `${other},udp:53`]],
    [`hash:ip,port,ip family ${inet}`, [`${ip},tcp:80,${other}`]],
    [`hash:ip,port,net family ${inet}`, [`${ip},udp:53,${net}`]],
    [`hash:net,net family ${inet}`, [`${net},${net}`]],
    ['bitmap:port range 50-90', ['80']],
    ...(family === 'ipv4' ? bitmaps : []),
  ];
}

interface SetCase {
  readonly sets: string;
  readonly rules: readonly string[];
  readonly packets: readonly (PacketShape & { readonly mac: number })[];
}

const shape = fc.record({
  ...HEADERS,
  fragment: fc.constantFrom(0, 0, 0, 3),
  mark: fc.constant(0),
  device: fc.constant('lo'),
  ethernet: fc.constant(undefined),
  mac: fc.constantFrom(0, 1, 1, 2),
});

/** Times are so long that none runs out meanwhile. */
function casesAt(family: Family, place: Place): fc.Arbitrary<SetCase> {
  const { ip, other, net, inet } = family === 'ipv4' ? V4 : V6;
  const directions = fc.array(fc.constantFrom('src', 'dst'), { minLength: 3, maxLength: 3 });
  return fc
    .record({
      kind: fc.constantFrom(...kinds(family, place)),
      extras: fc.constantFrom(
        '',
        ' timeout 1000',
        ' counters',
        ' counters timeout 0',
        ' counters maxelem 3',
        ' maxelem 1 forceadd',
      ),
      count: fc.integer({ min: 0, max: 2 }),
      asked: fc.constantFrom('', ' --packets-gt 2', ' ! --update-counters', ' --bytes-lt 200'),
      negate: fc.constantFrom('', '! '),
      change: fc.constantFrom('--add-set', '--add-set', '--del-set'),
      how: fc.constantFrom('', ' --exist', ' --exist --timeout 3000', ' --timeout 0'),
      list: fc.boolean(),
      one: directions,
      two: directions,
      packets: fc.array(shape, { minLength: PACKETS, maxLength: PACKETS }),
    })
    .map(({ kind: [type, entries], extras, count, asked, negate, change, how, list, one, two, packets }) => {
      const small = extras.includes('maxelem') ? extras : `${extras} maxelem 64`;
      const sides = (all: readonly string[]): string =>
        (type.includes('mac') ? [all[0], 'src', 'src'] : all).join();
      const changed = list ? 'l' : 's';
      return {
        sets: [
          `create s ${type}${type.startsWith('bitmap') ? extras.replace(/ maxelem .*/, '') : small}`,
          ...entries
            .slice(0, extras.includes('forceadd') ? Math.min(count, 1) : count)
            .map((entry) => `add s ${entry}`),
          `create one hash:ip family ${inet} maxelem 2 counters`,
          `add one ${ip}`,
          `create nets hash:net family ${inet} maxelem 9`,
          `add nets ${net}`,
          `add nets ${other} nomatch`,
          'create l list:set',
          ...['one', 's', 'nets'].map((name) => `add l ${name}`),
        ].join('\n'),
        rules: [
          `-m set ${negate}--match-set s ${sides(one)}${asked} -j DROP`,
          `-j SET ${change} ${changed} ${sides(two)}${change === '--add-set' ? how : ''}`,
          `-m set --match-set l ${sides(two)} -j DROP`,
        ],
        packets,
      };
    });
}

/** What is in a set, in one order; times to the next hundred seconds. */
function contents(definition: SetDefinition, elements: Iterable<SetElement>): string[] {
  return Array.from(elements, (element) =>
    formatElement(definition, element).replace(
      /(?<= timeout )[0-9]+/,
      (left) => `${Math.ceil(Number(left) / 100) * 100}`,
    ),
  ).sort();
}

/** The sets of a case in a loaded policy's arena, behind its generation. */
function putSets(loaded: LoadedPolicy, sets: readonly SetContents[]): () => string[] {
  const { buffer } = loaded.arena;
  installSets(buffer, GENERATIONS_OFFSET + loaded.size, sets);
  const memory: SetMemory = {
    buffer,
    nowNs: process.hrtime.bigint,
    random64: () => 0n,
    allocate: () => {
      throw new RangeError('a set that packets change has all its room');
    },
  };
  return () =>
    sets.flatMap(({ definition }, slot) =>
      contents(definition, new SetTable(memory, SETS_OFFSET + slot * SET_RECORD_SIZE, definition).elements()),
    );
}

function frameOf(family: Family, packet: Uint8Array, mac: number): Uint8Array {
  const frame = new Uint8Array(14 + packet.length);
  if (mac > 0) frame.set([2, 0, 0, 0, 0, mac], 6);
  frame.set(ETHERTYPES[family], 12);
  frame.set(packet, 14);
  return frame;
}

class Compared {
  readonly #family: Family;
  readonly #place: Place;
  #tables: LoadedPolicy | undefined;

  constructor(family: Family, place: Place) {
    this.#family = family;
    this.#place = place;
  }

  /** Runs the packets through both. */
  compare({ sets: text, rules, packets }: SetCase, strategy: StrategyName): void {
    const family = this.#family;
    const { name, place, chain, hook, accept } = this.#place;
    const { sets, diagnostics } = parseSets(text, { file: 'sets' });
    expect(diagnostics).toEqual([]);
    const file = `*filter\n:${chain} ACCEPT [0:0]\n${rules.map((rule) => `-A ${chain} ${rule}\n`).join('')}COMMIT\n`;
    const parsed = parseRuleset(file, { file: 'rules', family });
    expect(parsed.diagnostics).toEqual([]);
    const { ruleset } = parsed;
    const policy = compilePolicy([ruleset], {
      hooks: [name],
      fragments: 'rules',
      sets: placesInOrder(sets),
      strategy,
    });
    const loaded = this.#load(policy, strategy);
    const found = putSets(loaded, sets);
    const plain = plainSets(sets);
    const host = createHost({
      ruleset,
      routing: worldRouting(family),
      nowMs: () => 0,
      random32: () => 0,
      sets: plain,
    });
    for (const packet of packets) {
      const bytes = packetFor(family, packet);
      const data = frameOf(family, bytes, packet.mac);
      const expected = judge(host, ruleset, {
        bytes,
        hook,
        inDevice: hook === 1 ? 'lo' : '',
        outDevice: hook === 1 ? '' : 'lo',
        ...(name === 'xdp' ? { ethernet: data.subarray(0, 14) } : {}),
      });
      if (expected === undefined) continue;
      const verdict = loaded.run(place, { data }).returnValue === accept ? 'ACCEPT' : 'DROP';
      if (verdict !== expected.verdict)
        expect({ packet, verdict }).toEqual({ packet, verdict: expected.verdict });
    }
    expect(programCounts(policy, (index) => loaded.counter(index))).toEqual(evaluatorCounts(host));
    expect(found()).toEqual(
      sets.flatMap(({ definition }) => contents(definition, plain.get(definition.name)!.elements(0))),
    );
    if (strategy === 'inline') loaded.close();
  }

  /** Tables of all cases have one program, which is loaded once. */
  #load(policy: CompiledPolicy, strategy: StrategyName): LoadedPolicy {
    const make = (): LoadedPolicy => new LoadedPolicy(policy, {}, 'only', [this.#place.place], 1, ROOM);
    if (strategy === 'inline') return make();
    if (this.#tables === undefined) {
      this.#tables = make();
      return this.#tables;
    }
    expect(codeOf(policy, this.#place)).toEqual(codeOf(this.#tables.policy, this.#place));
    this.#tables.renew(policy);
    return this.#tables;
  }

  [Symbol.dispose](): void {
    this.#tables?.close();
  }
}

function codeOf(policy: CompiledPolicy, { place }: Place): Uint8Array {
  return encodeProgram(policy.programs.find(({ point }) => entryIndex(point) === place)!.code.instructions);
}

const seed = fc.readConfigureGlobal().seed ?? 0;
const FAMILIES = ['ipv4', 'ipv6'] as const;

describeKernel('sets that packets change at every hook', () => {
  for (const [index, place] of PLACES.entries()) {
    const families = SOAK ? FAMILIES : [FAMILIES[(seed + index) & 1]!];
    for (const family of families) {
      test(`${place.name}, ${family}`, () => {
        using compared = new Compared(family, place);
        for (const strategy of ['classifier', 'inline'] as const) {
          const property = fc.property(casesAt(family, place), (one) => compared.compare(one, strategy));
          fc.assert(property, { numRuns: CASES[strategy], endOnFailure: true });
        }
      });
    }
  }
});
