/**
 * Cases for `-m set` and `-j SET`: sets of every type with what may be in them, lists of sets, and rules that ask for them and
 * change them, as code, as a linear chain of the tables, and as one of vectors.
 */
import fc from 'fast-check';
import type { Family } from '../../src/net/index.ts';
import type { CasePacket, MachineCase } from './machine-cases.ts';
import { HEADERS, type PacketShape, packetFor } from './set-packets.ts';

/** What programs the rules become. */
export const FORMS = ['code', 'linear', 'vectors'] as const;
export type Form = (typeof FORMS)[number];

/** Rules that no packet fits: with them a chain is one of vectors. */
const OTHER_RULES: Readonly<Record<Family, readonly string[]>> = {
  ipv4: Array.from({ length: 9 }, (_, at) => `-s 192.0.2.${at + 1} -j DROP`),
  ipv6: Array.from({ length: 9 }, (_, at) => `-s 2001:db8:ffff::${at + 1} -j DROP`),
};

export interface SetCase {
  readonly form: Form;
  readonly given: MachineCase;
}

export type SetPacket = PacketShape & { readonly waitMs: number };

/** Rules, at the table whose packets are as they came. */
export function setCase(
  family: Family,
  form: Form,
  sets: string,
  asked: readonly string[],
  packets: readonly SetPacket[],
): SetCase {
  const rules = form === 'vectors' ? [...OTHER_RULES[family], ...asked] : asked;
  const text = `*raw\n:PREROUTING ACCEPT [0:0]\n${rules.map((rule) => `-A PREROUTING ${rule}\n`).join('')}COMMIT\n`;
  const given: MachineCase = {
    family,
    // Where fragments are not put together yet.
    group: 'raw',
    hook: 0,
    text,
    sets,
    packets: packets.map((shape): CasePacket => {
      const { device, ethernet, mark, waitMs } = shape;
      const bytes = packetFor(family, shape);
      return { bytes, inDevice: device, outDevice: '', mark, packetType: 0, ethernet, waitMs };
    }),
  };
  return { form, given };
}

const shape = fc.record({
  ...HEADERS,
  fragment: fc.constantFrom(0, 0, 0, 3),
  mark: fc.constantFrom(0, 1, 7),
  device: fc.constantFrom('eth0', 'wlan0', ''),
  mac: fc.constantFrom(0, 1, 2),
  waitMs: fc.constantFrom(0, 0, 300, 1500),
});
export const setPackets: fc.Arbitrary<readonly SetPacket[]> = fc
  .array(shape, { minLength: 1, maxLength: 40 })
  .map((list) =>
    list.map((one) => ({
      ...one,
      // Frames come in by a device.
      device: one.mac === 0 ? one.device : 'eth0',
      ethernet: one.mac === 0 ? undefined : frameFrom(one.mac),
    })),
  );

/** The link header of a frame from one of few sources. */
export function frameFrom(mac: number): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, mac, 8, 0);
}

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

/** Types of sets for packets of the family, and entries that packets may have. */
export function kinds(family: Family): readonly (readonly [type: string, entries: readonly string[]])[] {
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
    [
      'bitmap:ip,mac range 10.0.0.0-10.0.1.255',
      ['10.0.0.1', '10.0.1.2', '10.0.0.3,02:00:00:00:00:01', '10.0.1.4,02:00:00:00:00:02'],
    ],
  ];
  return [
    ...hashes.map((name) => {
      const parts = name
        .split(',')
        .map((part) => (v as Record<string, readonly string[]>)[part] ?? OTHERS[part]!);
      return [`hash:${name} family ${family === 'ipv4' ? 'inet' : 'inet6'}`, product(...parts)] as const;
    }),
    ...bitmaps.filter(([type]) => family === 'ipv4' || type.startsWith('bitmap:port')),
  ];
}

/** Rules about a set of one type. */
export function setCases(family: Family, type: string, entries: readonly string[]): fc.Arbitrary<SetCase> {
  const directions = fc
    .array(fc.constantFrom('src', 'dst'), { minLength: 3, maxLength: 3 })
    // Only the source of a frame can be looked up.
    .map((words) =>
      type.includes('mac') ? [type.includes('ip,mac') ? words[0]! : 'src', 'src', 'src'] : words,
    );
  return fc
    .record({
      form: fc.constantFrom(...FORMS),
      extras: fc.constantFrom(
        '',
        ' timeout 2',
        ' counters',
        ' timeout 1 counters',
        ' counters maxelem 3',
        ' timeout 1 maxelem 2',
        // Which entry makes room is known where there is one alone.
        ' counters maxelem 1 forceadd',
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
      packets: setPackets,
    })
    .map(({ form, extras, present, nomatch, match, options, returns, add, one, two, packets }) => {
      const limited = type.startsWith('bitmap') ? extras.replace(/ maxelem .*/, '') : extras;
      const full = present.slice(0, Number(/maxelem (\d)/.exec(extras)?.[1] ?? 3));
      const without = nomatch && type.split(' ')[0]!.includes('net');
      const sets = [
        `create s ${type}${limited}`,
        ...full.map((entry, index) => `add s ${entry}${without && index === 0 ? ' nomatch' : ''}`),
      ].join('\n');
      const asked = `${options}${returns ? ' --return-nomatch' : ''}`;
      return setCase(
        family,
        form,
        sets,
        [
          `-m set ${match}--match-set s ${one.join()}${asked} -j DROP`,
          `-j SET ${add.replace(' s', ` s ${two.join()}`)}`,
          `-m set --match-set s ${two.join()} -j DROP`,
        ],
        packets,
      );
    });
}

/** Rules about a list of sets: they ask for it, or they add to it and take from it. */
export function listCases(family: Family, what: 'asked' | 'changed'): fc.Arbitrary<SetCase> {
  const address =
    family === 'ipv4'
      ? ['10.0.0.1', '10.0.0.3', '10.0.0.0/24']
      : ['2001:db8::1', '2001:db8::3', '2001:db8::/48'];
  const inet = family === 'ipv4' ? 'inet' : 'inet6';
  return fc
    .record({
      form: fc.constantFrom(...FORMS),
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
      packets: setPackets,
    })
    .map(({ form, order, room, timeout, nomatch, negate, options, exist, packets }) => {
      const sets = [
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
      const rules =
        what === 'asked'
          ? ['src', 'src,dst', 'dst,src'].map(
              (sides) => `-m set ${negate}--match-set l ${sides}${options} -j DROP`,
            )
          : [
              `-j SET --add-set l src,dst${exist}`,
              '-m set --match-set l dst,dst -j DROP',
              '-j SET --del-set l dst,src',
            ];
      return setCase(family, form, sets, rules, packets);
    });
}

export const PLAIN: SetPacket = {
  source: 1,
  destination: 2,
  protocol: 17,
  sourcePort: 53,
  destinationPort: 80,
  cut: 40,
  fragment: 0,
  mark: 0,
  device: 'eth0',
  ethernet: undefined,
  waitMs: 0,
};

/** Counters just below, at and above what rules compare with; entries that stay for as long as a rule says, and lists of them. */
export function edgeCases(family: Family): MachineCase[] {
  const inet = family === 'ipv4' ? 'inet' : 'inet6';
  const comparisons = ['gt', 'lt', 'eq'].flatMap((compare) =>
    [4, 2 ** 32 + 4].flatMap((value) => [
      `-m set --match-set s src ! --update-counters --packets-${compare} ${value}`,
      `-m set --match-set s src ! --update-counters --bytes-${compare} ${value * (family === 'ipv4' ? 60 : 80)}`,
    ]),
  );
  const counted = setCase(
    family,
    'code',
    `create s hash:ip family ${inet} counters\nadd s ${ADDRESS[family]}`,
    [...comparisons, '-m set --match-set s src', '-m set --match-set s src ! --packets-eq 6'],
    Array.from({ length: 8 }, () => PLAIN),
  );
  const waits = [0, 1000, 1900, 200, 0, 4000, 4500, 0, 7000];
  const forgotten = setCase(
    family,
    'code',
    `create s hash:ip family ${inet} timeout 0\ncreate t hash:ip family ${inet} maxelem 1 timeout 2\ncreate l list:set\nadd l t\nadd l s`,
    [
      '-m set --match-set s dst -j DROP',
      '-m set --match-set l src',
      '-j SET --add-set s src --exist --timeout 3',
      '-j SET --add-set l src,dst --timeout 5',
      '-j SET --del-set l dst',
      '-j SET --add-set t dst --exist --del-set s dst',
      '-m set --match-set s src',
      '-m set --match-set t src',
    ],
    waits.flatMap((waitMs, index) => [
      { ...PLAIN, waitMs, source: 1 + (index % 3) },
      { ...PLAIN, destination: 1 + (index % 4) },
    ]),
  );
  return [counted.given, forgotten.given];
}

/** Sets that tell the sides of a packet apart, asked by each side, and changed by each. */
export function sideCases(family: Family): MachineCase[] {
  const inet = family === 'ipv4' ? 'inet' : 'inet6';
  const [own, other] = family === 'ipv4' ? ['10.0.0.1', '10.0.1.2'] : ['2001:db8::1', '2001:db8:1::2'];
  const [near, far] =
    family === 'ipv4' ? ['10.0.0.0/24', '10.0.1.0/24'] : ['2001:db8::/48', '2001:db8:1::/48'];
  const sides = ['src,src', 'src,dst', 'dst,src', 'dst,dst'];
  const asked = setCase(
    family,
    'code',
    [
      `create p hash:ip,port family ${inet}`,
      `add p ${own},udp:53`,
      `create n hash:net,port family ${inet}`,
      `add n ${far},udp:80`,
      `create i hash:net,iface family ${inet}`,
      `add i ${near},eth0`,
      'create b bitmap:port range 50-90',
      'add b 80',
      'create l list:set',
      ...['n', 'p'].map((name) => `add l ${name}`),
    ].join('\n'),
    [
      ...['p', 'n', 'i', 'l'].flatMap((name) => sides.map((side) => `-m set --match-set ${name} ${side}`)),
      ...['src', 'dst'].map((side) => `-m set --match-set b ${side}`),
    ],
    [
      PLAIN,
      { ...PLAIN, source: 2, destination: 1, sourcePort: 80, destinationPort: 53 },
      { ...PLAIN, sourcePort: 80, destinationPort: 1000 },
    ],
  );
  const empty = sides.map((side, at) => [`a${at}`, side] as const);
  const full = sides.map((side, at) => [`d${at}`, side] as const);
  const changed = setCase(
    family,
    'code',
    [
      ...empty.map(([name], at) => `create ${name} hash:${at % 2 === 0 ? 'ip' : 'net'},port family ${inet}`),
      ...full.flatMap(([name], at) => [
        `create ${name} hash:${at % 2 === 0 ? 'ip' : 'net'},port family ${inet}`,
        ...(at % 2 === 0 ? [own, other] : [near, far]).flatMap((address) =>
          ['udp:53', 'udp:80'].map((port) => `add ${name} ${address},${port}`),
        ),
      ]),
      ...['x', 'y'].flatMap((name) => [
        `create ${name} bitmap:port range 50-90`,
        `add ${name} 53`,
        `add ${name} 80`,
      ]),
      'create u bitmap:port range 50-90',
      'create v bitmap:port range 50-90',
      `create m1 hash:ip family ${inet}`,
      `create m2 hash:ip family ${inet}`,
      ...['m1', 'm2'].map((name) => `add ${name} ${other}`),
      'create l list:set',
      'add l m1',
      'add l m2',
    ].join('\n'),
    [
      ...empty.map(([name, side]) => `-j SET --add-set ${name} ${side}`),
      ...full.map(([name, side]) => `-j SET --del-set ${name} ${side}`),
      '-j SET --add-set u src --del-set x src',
      '-j SET --add-set v dst --del-set y dst',
      // The first member that has it loses it, then the next.
      '-j SET --del-set l dst',
      '-m set --match-set m1 dst',
      '-j SET --del-set l dst',
    ],
    [PLAIN],
  );
  return [asked.given, changed.given];
}

/** Packets of as many addresses as there are, some of which come again. */
const CROWD = 200;
const CROWD_SIZES = [19, 39, 256];

/** Sets of few buckets, filled to their limit and beyond: entries lie behind their home buckets and around the end of the table. */
export function crowdedCases(family: Family): fc.Arbitrary<SetCase> {
  const inet = family === 'ipv4' ? 'inet' : 'inet6';
  const range = 'range 10.1.0.0-10.1.1.255';
  const types = [
    `hash:ip family ${inet}`,
    `hash:net family ${inet}`,
    `hash:ip,port family ${inet}`,
    `hash:net,port,net family ${inet}`,
    `hash:net,net family ${inet}`,
    ...(family === 'ipv4' ? [`bitmap:ip ${range}`, `bitmap:ip,mac ${range}`] : []),
  ];
  const crowd = fc.record({
    source: fc.integer({ min: 1, max: 255 }),
    destination: fc.integer({ min: 1, max: 255 }),
    sourcePort: fc.constantFrom(80, 53),
    mac: fc.constantFrom(1, 2),
    waitMs: fc.constantFrom(...Array.from({ length: 20 }, () => 0), 100, 700, 2000),
  });
  return fc
    .record({
      form: fc.constantFrom(...FORMS),
      type: fc.constantFrom(...types),
      size: fc.constantFrom(...CROWD_SIZES),
      extras: fc.constantFrom(
        '',
        ' counters',
        ' timeout 2',
        ' timeout 5 counters',
        ' timeout 2 skbinfo comment',
        ' timeout 0',
      ),
      exist: fc.constantFrom('', ' --exist', ' --exist --timeout 3'),
      forgets: fc.boolean(),
      packets: fc.array(crowd, { minLength: CROWD, maxLength: CROWD }),
    })
    .map(({ form, type, size, extras, exist, forgets, packets }) => {
      const limit = type.startsWith('bitmap') ? '' : ` maxelem ${size}`;
      const said = extras.includes('timeout') ? exist : exist.replace(/ --timeout \d/, '');
      return setCase(
        family,
        form,
        `create s ${type}${limit}${extras}`,
        [
          '-m set --match-set s dst,src,dst',
          `-j SET --add-set s src,src,src${said}`,
          '-m set --match-set s src,src,src',
          ...(forgets ? ['-j SET --del-set s dst,src,dst'] : []),
          '-m set --match-set s src,src,src -j DROP',
        ],
        packets.map(({ mac, ...one }) => ({ ...PLAIN, ...one, ethernet: frameFrom(mac) })),
      );
    });
}

const ADDRESS: Readonly<Record<Family, string>> = { ipv4: '10.0.0.1', ipv6: '2001:db8::1' };
