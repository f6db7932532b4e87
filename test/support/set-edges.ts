/** What few sets and few packets have: each case is one of them. */
import type { Family } from '../../src/net/index.ts';
import type { MachineCase } from './machine-cases.ts';
import { frameFrom, PLAIN, type SetCase, type SetPacket, setCase } from './set-cases.ts';

const FORMS = ['code', 'linear'] as const;

interface Side {
  readonly inet: string;
  /** The packet's address by its number. */
  readonly one: string;
  readonly two: string;
  readonly near: string;
  readonly wide: string;
  readonly odd: string;
  readonly zeros: readonly [at: number, bytes: number];
}

const SIDES: Readonly<Record<Family, Side>> = {
  ipv4: {
    inet: 'inet',
    one: '10.0.0.1',
    two: '10.0.1.2',
    near: '10.0.0.0/24',
    wide: '10.0.0.0/16',
    odd: '10.0.0.0/25',
    zeros: [12, 4],
  },
  ipv6: {
    inet: 'inet6',
    one: '2001:db8::1',
    two: '2001:db8:1::2',
    near: '2001:db8::/48',
    wide: '2001:db8::/32',
    odd: '2001:db8::/49',
    zeros: [8, 16],
  },
};

/** All of them, as code and as tables. */
export function oddCases(family: Family): SetCase[] {
  const side = SIDES[family];
  return FORMS.flatMap((form) => {
    const make = (
      sets: readonly string[],
      rules: readonly string[],
      packets: readonly SetPacket[],
    ): SetCase => setCase(family, form, sets.join('\n'), rules, packets);
    return [
      anew(side, make),
      exceptions(side, make),
      large(side, make),
      protocols(make),
      uneven(side, make),
      fromNowhere(side, make(...zeros(side))),
      ...(family === 'ipv4' ? [frames(make), waiting(make), other(make)] : []),
    ];
  });
}

type Make = (sets: readonly string[], rules: readonly string[], packets: readonly SetPacket[]) => SetCase;

/** An entry in the place of one that had all that entries may have. */
function anew({ inet, one }: Side, make: Make): SetCase {
  const all = 'skbmark 0x5/0x7 skbprio 1:2 skbqueue 3 packets 7 bytes 9 comment "gone"';
  return make(
    [`create s hash:ip family ${inet} maxelem 1 timeout 0 counters skbinfo comment`, `add s ${one} ${all}`],
    [
      '-j SET --del-set s dst',
      '-j SET --add-set s src',
      '-m set --match-set s src --packets-eq 1',
      '-m set --match-set s src -j DROP',
    ],
    [
      { ...PLAIN, source: 2, destination: 1 },
      { ...PLAIN, source: 2, waitMs: 5000 },
    ],
  );
}

/** A network of an odd length, which a packet takes out. */
function uneven({ inet, odd }: Side, make: Make): SetCase {
  return make(
    [`create s hash:net family ${inet}`, `add s ${odd}`],
    ['-j SET --del-set s src', '-m set --match-set s src -j DROP'],
    [{ ...PLAIN, source: 1 }],
  );
}

/** Networks that are left out of wider ones. */
function exceptions({ inet, near, wide }: Side, make: Make): SetCase {
  const ways = ['', '! '].flatMap((not) =>
    ['', ' --return-nomatch'].map((returns) => `-m set ${not}--match-set s src${returns}`),
  );
  return make([`create s hash:net family ${inet}`, `add s ${wide}`, `add s ${near} nomatch`], ways, [
    PLAIN,
    { ...PLAIN, source: 2 },
  ]);
}

/** Counters beyond 32 bits, at what is asked for. */
function large({ inet, one }: Side, make: Make): SetCase {
  const packets = 2 ** 33 + 4;
  const bytes = 2 ** 33 + 9;
  const asked = [packets - 1, packets, packets + 1].flatMap((value) =>
    ['eq', 'lt', 'gt'].map((compare) => `--packets-${compare} ${value}`),
  );
  const ofBytes = [bytes - 1, bytes, bytes + 1].flatMap((value) =>
    ['eq', 'lt', 'gt'].map((compare) => `--bytes-${compare} ${value}`),
  );
  return make(
    [`create s hash:ip family ${inet} counters`, `add s ${one} packets ${packets} bytes ${bytes}`],
    [...asked, ...ofBytes].map((one) => `-m set --match-set s src ! --update-counters ${one}`),
    [PLAIN],
  );
}

/** Ports of a bitmap are those of TCP and UDP. */
function protocols(make: Make): SetCase {
  return make(
    ['create s bitmap:port range 50-90', 'add s 53', 'create t bitmap:port range 50-90'],
    ['-m set --match-set s src', '-m set ! --match-set s src', '-j SET --add-set t dst'],
    [6, 17, 132, 47, 1, 58].flatMap((protocol, at) => [
      { ...PLAIN, protocol, destinationPort: 50 + at },
      { ...PLAIN, protocol, destinationPort: [49, 50, 90, 91][at % 4]! },
      { ...PLAIN, protocol, cut: 3 },
    ]),
  );
}

function zeros({ inet }: Side): Parameters<Make> {
  return [
    [
      `create s hash:ip family ${inet}`,
      `create t hash:ip,port family ${inet}`,
      `create n hash:net family ${inet}`,
    ],
    [
      '-j SET --add-set s src',
      '-j SET --add-set t src,src',
      '-j SET --add-set n src',
      '-m set --match-set s src',
    ],
    [PLAIN, PLAIN],
  ];
}

/** The last packet's source is the address of all zeros. */
function fromNowhere({ zeros: [at, bytes] }: Side, { form, given }: SetCase): SetCase {
  const [first, second] = given.packets;
  const nowhere = Uint8Array.from(second!.bytes).fill(0, at, at + bytes);
  const changed: MachineCase = { ...given, packets: [first!, { ...second!, bytes: nowhere }] };
  return { form, given: changed };
}

/** Link headers from sources with zeros: that of zeros alone is none. */
function frames(make: Make): SetCase {
  const sources = [
    [0, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 5],
    [0, 0, 0, 0, 5, 0],
  ];
  return make(
    [
      'create s hash:mac',
      'add s 02:00:00:00:00:00',
      'create t hash:mac',
      'create u bitmap:ip,mac range 10.0.0.0/16',
    ],
    ['-m set --match-set s src', '-j SET --add-set t src', '-j SET --add-set u src,src --exist'],
    [...sources, ...sources.slice(1, 3)].map((source, at) => ({
      ...PLAIN,
      source: at + 1,
      ethernet: Uint8Array.of(2, 0, 0, 0, 0, 1, ...source, 8, 0),
    })),
  );
}

/** Entries that wait for their MAC address: what was said of their time counts, unless the packet's rule says another. */
function waiting(make: Make): SetCase {
  const sources = [1, 3, 5, 7];
  return make(
    [
      'create s bitmap:ip,mac range 10.0.0.0/16 timeout 4 counters',
      'add s 10.0.0.1 timeout 90',
      'add s 10.0.0.3',
      'add s 10.0.0.5 timeout 0',
      'add s 10.0.0.7 timeout 1000',
      'create t bitmap:ip,mac range 10.0.0.0/16 timeout 4',
      'add t 10.0.0.1 timeout 90',
      'add t 10.0.0.3',
      'add t 10.0.0.5 timeout 0',
      'create u bitmap:ip,mac range 10.0.0.0/16 timeout 4',
      'add u 10.0.0.1 timeout 90',
      'add u 10.0.0.3 timeout 0',
    ],
    [
      '-m set --match-set s src,src',
      '-j SET --add-set t src,src --exist --timeout 60',
      '-j SET --add-set u src,src --exist',
      '-m set --match-set s src,src -j DROP',
    ],
    [0, 1000, 4000].flatMap((waitMs, round) =>
      sources.map((source, at) => ({
        ...PLAIN,
        source,
        ethernet: frameFrom(round === 1 ? 2 : 1),
        waitMs: at === 0 ? waitMs : 0,
      })),
    ),
  );
}

/** Entries that hold addresses: the same is found, another is not, and takes its place where that is said. */
function other(make: Make): SetCase {
  return make(
    [
      'create s bitmap:ip,mac range 10.0.0.0/16 counters',
      ...[1, 3].map((number) => `add s 10.0.0.${number},02:00:00:00:00:0${number}`),
      'create t bitmap:ip,mac range 10.0.0.0/16',
      ...[1, 3].map((number) => `add t 10.0.0.${number},02:00:00:00:00:0${number}`),
      'create u bitmap:ip,mac range 10.0.0.0/16',
      ...[1, 3].map((number) => `add u 10.0.0.${number},02:00:00:00:00:0${number}`),
    ],
    [
      '-m set --match-set s src,src',
      '-j SET --add-set t src,src',
      '-j SET --add-set u src,src --exist',
      '-m set --match-set u src,src',
      '-j SET --del-set s src,src',
      '-m set --match-set s src,src -j DROP',
    ],
    [
      [1, 1],
      [1, 2],
      [3, 2],
      [3, 3],
      [5, 2],
      [5, 1],
    ].map(([source, mac]) => ({ ...PLAIN, source: source!, ethernet: frameFrom(mac!) })),
  );
}
