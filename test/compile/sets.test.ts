/** `-m set` and `-j SET` in programs against the evaluator: the same verdicts, and the same sets after the same packets. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePolicy, entryIndex } from '../../src/compile/index.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import { Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import {
  evaluateTable,
  formatElement,
  PlainSet,
  parseRuleset,
  parseSets,
  prepareTable,
  transportPosition,
} from '../../src/rules/index.ts';
import { type PacketShape, packetFor } from '../support/set-packets.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

interface ListCase {
  readonly order: readonly string[];
  readonly room: number;
  readonly timeout: string;
  readonly nomatch: string;
}

interface World {
  readonly family: Family;
  readonly sets: string;
  readonly rules: readonly string[];
  readonly form: Form;
}

/** Rules that no packet fits: with them a chain is one of vectors. */
const OTHER_RULES: Readonly<Record<Family, readonly string[]>> = {
  ipv4: Array.from({ length: 9 }, (_, at) => `-s 192.0.2.${at + 1} -j DROP`),
  ipv6: Array.from({ length: 9 }, (_, at) => `-s 2001:db8:ffff::${at + 1} -j DROP`),
};

/** Rules as code, as a linear chain of the tables, and as one of vectors. */
const FORMS = ['code', 'linear', 'vectors'] as const;
type Form = (typeof FORMS)[number];

/** Runs the packets through both, and compares verdicts and sets. */
function compare(
  { family, sets: text, rules: asked, form }: World,
  packets: readonly (PacketShape & { waitMs: number })[],
): void {
  const strategy = form === 'code' ? 'inline' : 'classifier';
  const rules = form === 'vectors' ? [...OTHER_RULES[family], ...asked] : asked;
  const parsed = parseSets(text, { file: 'sets' });
  expect(parsed.diagnostics).toEqual([]);
  const file = `*filter\n:INPUT ACCEPT [0:0]\n${rules.map((rule) => `-A INPUT ${rule}\n`).join('')}COMMIT\n`;
  const { ruleset, diagnostics } = parseRuleset(file, { file: 'rules', family });
  expect(diagnostics).toEqual([]);
  const places = new Map(parsed.sets.map(({ definition }, slot) => [definition.name, { definition, slot }]));
  const policy = compilePolicy([ruleset], {
    hooks: ['netfilter'],
    hz: MACHINE_HZ,
    sets: places,
    strategy,
  });
  expect(new Set(policy.choices.map((choice) => choice.strategy))).toEqual(new Set([strategy]));
  let ms = 5000;
  const machine = new PolicyMachine(policy, {
    clock: { monotonicNs: () => BigInt(ms) * 1_000_000n },
    sets: parsed.sets,
  });
  const plain = new Map(
    parsed.sets.map(({ definition, elements }) => [definition.name, new PlainSet(definition, elements)]),
  );
  const table = prepareTable(ruleset.tables[0]!, family, ms);
  const world = {
    nowMs: () => ms,
    random32: () => 0,
    addressType: () => 1,
    outputDevice: () => undefined,
    sets: plain,
  };
  const place = entryIndex({ flavour: 'netfilter', group: 'filter', family, hook: Hook.LOCAL_IN });
  for (const shape of packets) {
    ms += shape.waitMs;
    // Sets that no rule looks at grow old, too.
    for (const set of plain.values()) set.begin(ms);
    const bytes = packetFor(family, shape);
    const common = {
      bytes,
      hook: Hook.LOCAL_IN,
      inDevice: shape.device,
      outDevice: '',
      mark: shape.mark,
      ethernet: shape.ethernet,
    };
    const wanted = evaluateTable(table, {
      ...common,
      ...transportPosition(family, bytes),
      family,
      length: bytes.length,
      packetType: 0,
      conntrack: undefined,
      world,
      log: () => {},
    })!;
    const got = machine.run(place, { ...common, family })!;
    expect(got.accepted ? 'ACCEPT' : 'DROP', JSON.stringify(shape)).toBe(wanted.verdict);
  }
  for (const { definition } of parsed.sets) {
    const lines = (elements: Iterable<Parameters<typeof formatElement>[1]>): string[] =>
      [...elements].map((element) => formatElement(definition, element)).sort();
    expect(lines(machine.sets.get(definition.name)!.elements())).toEqual(
      lines(plain.get(definition.name)!.elements(ms)),
    );
  }
}

const shape = fc.record({
  source: fc.integer({ min: 1, max: 9 }),
  destination: fc.integer({ min: 1, max: 9 }),
  protocol: fc.constantFrom(6, 17, 1, 58, 47, 132),
  sourcePort: fc.constantFrom(80, 53, 1000),
  destinationPort: fc.constantFrom(80, 53, 1000),
  cut: fc.constantFrom(40, 40, 40, 10, 3),
  fragment: fc.constantFrom(0, 0, 0, 3),
  mark: fc.constantFrom(0, 1, 7),
  device: fc.constantFrom('eth0', 'wlan0', ''),
  mac: fc.constantFrom(0, 1, 2),
  waitMs: fc.constantFrom(0, 0, 300, 1500),
});
const packets = fc.array(shape, { minLength: 1, maxLength: 40 }).map((list) =>
  list.map((one) => ({
    ...one,
    // Frames come in by a device.
    device: one.mac === 0 ? one.device : 'eth0',
    ethernet: one.mac === 0 ? undefined : Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, one.mac, 8, 0),
  })),
);

const V4 = {
  ip: ['10.0.0.1', '10.0.1.2'],
  net: ['10.0.0.0/24', '10.0.1.0/24', '10.0.0.0/16', '10.0.0.3'],
  port: ['tcp:80', 'udp:53', 'icmp:echo-request', 'gre:0'],
};
const V6 = {
  ip: ['2001:db8::1', '2001:db8:1::2'],
  net: ['2001:db8::/48', '2001:db8:1::/64', '2001:db8::/32', '2001:db8::3'],
  port: ['tcp:80', 'udp:53', 'ipv6-icmp:echo-request', 'gre:0'],
};
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  iface: ['eth0', 'wlan0'],
  mark: ['0x1', '0x7'],
  mac: ['02:00:00:00:00:01'],
};

function kinds(family: Family): readonly (readonly [type: string, entries: readonly string[]])[] {
  const v = family === 'ipv4' ? V4 : V6;
  const product = (...dimensions: readonly (readonly string[])[]): string[] =>
    dimensions.reduce<string[]>(
      (all, part) => all.flatMap((left) => part.map((right) => (left === '' ? right : `${left},${right}`))),
      [''],
    );
  const hashes = [
    'ip',
    'net',
    'ip,port',
    'net,port',
    'ip,port,ip',
    'ip,port,net',
    'net,net',
    'net,port,net',
    'net,iface',
    'ip,mark',
    'ip,mac',
    'mac',
  ];
  const bitmaps: readonly (readonly [string, readonly string[]])[] = [
    ['bitmap:ip range 10.0.0.0-10.0.1.255', V4.ip],
    ['bitmap:port range 50-90', ['80', '53']],
  ];
  return [
    ...hashes.map((name) => {
      const parts = name
        .split(',')
        .map((part) => (v as Record<string, readonly string[]>)[part] ?? OTHERS[part]!);
      return [`hash:${name} family ${family === 'ipv4' ? 'inet' : 'inet6'}`, product(...parts)] as const;
    }),
    ...(family === 'ipv4' ? bitmaps : bitmaps.slice(1)),
  ];
}

describe.each(['ipv4', 'ipv6'] as const)('sets in %s programs', (family) => {
  it.each(kinds(family))('%s', (type, entries) => {
    const directions = fc
      .array(fc.constantFrom('src', 'dst'), { minLength: 3, maxLength: 3 })
      // Only the source of a frame can be looked up.
      .map((words) => (type.includes('mac') ? words.map(() => 'src') : words));
    const world = fc.record({
      form: fc.constantFrom(...FORMS),
      extras: fc.constantFrom(
        '',
        ' timeout 2',
        ' counters',
        ' timeout 1 counters',
        ' counters maxelem 3',
        ' timeout 1 maxelem 2',
      ),
      present: fc.subarray([...entries], { maxLength: Math.min(6, entries.length) }),
      nomatch: fc.boolean(),
      match: fc.constantFrom('', '! ', ''),
      options: fc.constantFrom(
        '',
        ' --packets-gt 2',
        ' ! --update-counters',
        ' --bytes-lt 200',
        ' ! --packets-eq 1',
      ),
      returns: fc.boolean(),
      add: fc.constantFrom(
        '--add-set s',
        '--add-set s',
        '--del-set s',
        '--add-set s --exist',
        '--add-set s --exist --timeout 3',
      ),
      one: directions,
      two: directions,
    });
    fc.assert(
      fc.property(world, packets, (made, list) => {
        const limited = type.startsWith('bitmap') ? made.extras.replace(/ maxelem \d/, '') : made.extras;
        const full = made.extras.includes('maxelem 2') ? made.present.slice(0, 2) : made.present.slice(0, 3);
        const sets = [
          `create s ${type}${limited}`,
          ...full.map(
            (entry, index) =>
              `add s ${entry}${made.nomatch && index === 0 && type.split(' ')[0]!.includes('net') ? ' nomatch' : ''}`,
          ),
        ].join('\n');
        const options = `${made.options}${made.returns ? ' --return-nomatch' : ''}`;
        const target = made.add.replace(' s', ` s ${made.two.join()}`);
        compare(
          {
            family,
            form: made.form,
            sets,
            rules: [
              `-m set ${made.match}--match-set s ${made.one.join()}${options} -j DROP`,
              `-j SET ${target}`,
              `-m set --match-set s ${made.two.join()} -j DROP`,
            ],
          },
          list,
        );
      }),
      { numRuns: 12 * SOAK },
    );
  });

  const address =
    family === 'ipv4'
      ? ['10.0.0.1', '10.0.0.3', '10.0.0.0/24']
      : ['2001:db8::1', '2001:db8::3', '2001:db8::/48'];
  const inet = family === 'ipv4' ? 'inet' : 'inet6';
  const lists = fc.record({
    order: fc.shuffledSubarray(['one', 'nets', 'ports', 'other'], { minLength: 1 }),
    room: fc.constantFrom(1, 3),
    timeout: fc.constantFrom('', ' timeout 1'),
    nomatch: fc.constantFrom('', ' nomatch'),
    negate: fc.constantFrom('', '! '),
    options: fc.constantFrom(
      '',
      ' --return-nomatch',
      ' ! --update-counters',
      ' ! --update-subcounters',
      ' --packets-gt 1',
    ),
    exist: fc.constantFrom('', ' --exist'),
  });
  const setsOf = ({ order, room, timeout, nomatch }: ListCase): string =>
    [
      `create one hash:ip family ${inet} maxelem ${room}${timeout} counters`,
      `add one ${address[0]}`,
      `create nets hash:net family ${inet} counters`,
      `add nets ${address[2]}`,
      `add nets ${address[1]}${nomatch}`,
      `create ports hash:ip,port family ${inet} maxelem 4`,
      `create other hash:ip family ${family === 'ipv4' ? 'inet6' : 'inet'}`,
      'create l list:set',
      ...order.map((name) => `add l ${name}`),
    ].join('\n');

  it('list:set is looked up in every form', () => {
    fc.assert(
      fc.property(lists, fc.constantFrom(...FORMS), packets, (made, form, list) => {
        const rules = ['src', 'src,dst', 'dst,src'].map(
          (sides) => `-m set ${made.negate}--match-set l ${sides}${made.options} -j DROP`,
        );
        compare({ family, form, sets: setsOf(made), rules }, list);
      }),
      { numRuns: 12 * SOAK },
    );
  });

  it('the first member of a list:set that takes an entry gets it, and the first that has it loses it', () => {
    fc.assert(
      fc.property(lists, fc.constantFrom(...FORMS), packets, (made, form, list) => {
        const rules = [
          `-j SET --add-set l src,dst${made.exist}`,
          '-m set --match-set l dst,dst -j DROP',
          '-j SET --del-set l dst,src',
        ];
        compare({ family, form, sets: setsOf(made), rules }, list);
      }),
      { numRuns: 12 * SOAK },
    );
  });
});
