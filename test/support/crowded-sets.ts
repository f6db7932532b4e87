/**
 * Tables of sets that are full where a packet's key belongs: entries chosen by their hash, so that the packet's lies as far from
 * home as any may, or finds no room, or makes another go (forceadd).
 */
import { bucketsFor, createSet, SetRecord } from '../../src/compile/index.ts';
import { SetHash } from '../../src/compile/sets/hash.ts';
import { BUCKET_SLOTS, MAX_DISTANCE } from '../../src/compile/sets/layout.ts';
import type { Family } from '../../src/net/index.ts';
import {
  keyLayout,
  MAX_KEY_WORDS,
  parseEntry,
  parseSets,
  type SetDefinition,
} from '../../src/rules/index.ts';
import { caseSecrets } from './machine-cases.ts';
import { type Form, PLAIN, type SetCase, type SetPacket, setCase } from './set-cases.ts';

/** A case whose outcome the layout of the table decides. */
export interface CrowdedCase extends SetCase {
  /** True when the evaluator, which knows nothing of tables, says the same. */
  readonly plain?: boolean;
  /** What is in the set in the end, in some order. */
  readonly entries: readonly string[];
}

/** Of the first set of a case: the bucket that the entry belongs to. */
function homes(definition: SetDefinition): (entry: string) => number {
  const buffer = new ArrayBuffer(2 ** 21);
  let end = 4096;
  const allocate = (bytes: number): number => {
    const at = end;
    end += Math.ceil(bytes / 4096) * 4096;
    return at;
  };
  createSet({ buffer, allocate, nowNs: () => 0n, random64: caseSecrets() }, 0, definition, 1);
  const multipliers = new BigUint64Array(buffer, SetRecord.multipliers, MAX_KEY_WORDS);
  const hash = new SetHash(multipliers, new BigUint64Array(buffer, SetRecord.start, 1)[0]!);
  const mask = bucketsFor(definition.maxelem) - 1;
  return (entry) => {
    const [key] = parseEntry(definition, entry);
    return (hash.of(key!, keyLayout(definition.type, definition.family).identity) & mask) >>> 0;
  };
}

/** A set, and addresses that belong where it is asked for. */
class Crowd {
  readonly create: string;
  readonly buckets: number;
  readonly #home: (entry: string) => number;
  readonly #family: Family;
  readonly #byHome: string[][];

  constructor(family: Family, create: string) {
    this.create = create;
    this.#family = family;
    const { definition } = parseSets(create, { file: 'crowd' }).sets[0]!;
    this.buckets = bucketsFor(definition.maxelem);
    this.#home = homes(definition);
    this.#byHome = Array.from({ length: this.buckets }, () => []);
    for (let number = 1; number < 40 * this.buckets; number++) {
      const entry =
        family === 'ipv4'
          ? `172.16.${number >>> 8}.${number & 0xff}`
          : `2001:db8:ffff::1:${number.toString(16)}`;
      this.#byHome[this.#home(entry)]!.push(entry);
    }
  }

  /** The packet's source by its number. */
  source(number: number): string {
    if (this.#family === 'ipv4') return `10.${number > 7 ? 1 : 0}.${number % 2 === 0 ? 1 : 0}.${number}`;
    return `2001:db8:${number % 2 === 0 ? '1' : ''}::${number.toString(16)}`.replace(':::', '::');
  }

  home(number: number): number {
    return this.#home(this.source(number));
  }

  /** So many addresses whose home is the bucket, around the end of the table. */
  at(bucket: number, count: number = BUCKET_SLOTS): string[] {
    return this.#byHome[bucket % this.buckets]!.slice(0, count);
  }

  /** Whose home is one of the buckets from `first` on. */
  from(first: number, buckets: number): string[] {
    return Array.from({ length: buckets }, (_, further) => this.at(first + further)).flat();
  }
}

function sourceOf(number: number): SetPacket {
  return { ...PLAIN, source: number };
}

const FORMS: readonly Form[] = ['code', 'linear'];
const ADDS = '-j SET --add-set s src';

function sized(family: Family, maxelem: number, more = ''): string {
  return `create s hash:ip family ${family === 'ipv4' ? 'inet' : 'inet6'} maxelem ${maxelem}${more}\n`;
}

/** The last bucket that the key may lie in has one slot left, then none; and the first slot of its home is the only one that is free. */
export function farCases(family: Family): CrowdedCase[] {
  const crowd = new Crowd(family, sized(family, 300));
  const numbers = Array.from({ length: 255 }, (_, at) => at + 1);
  return numbers
    .map((number) => numbers.filter((other) => crowd.home(other) === crowd.home(number)))
    .filter((same) => same.length >= 2)
    .slice(0, 1)
    .flatMap(([one, two]) => {
      const first = crowd.home(one!);
      const present = [
        ...crowd.from(first, MAX_DISTANCE),
        ...crowd.at(first + MAX_DISTANCE, BUCKET_SLOTS - 1),
      ];
      const rules = [
        '-m set --match-set s src',
        ADDS,
        '-m set --match-set s src',
        '-j SET --del-set s dst',
        '-m set --match-set s src',
      ];
      // The second finds the last place taken; the third takes it from the first.
      const packets = [
        sourceOf(one!),
        sourceOf(two!),
        { ...sourceOf(one!), destination: one! },
        sourceOf(two!),
      ];
      const others = [...crowd.at(first, BUCKET_SLOTS - 1), ...crowd.from(first + 1, MAX_DISTANCE)];
      const inPlace = ['-j SET --del-set s dst', ADDS, '-m set --match-set s src -j DROP'];
      return FORMS.flatMap((form) => [
        {
          ...crowded(
            family,
            form,
            crowd,
            [crowd.source(one!), ...others],
            inPlace,
            [{ ...sourceOf(two!), destination: one! }],
            [...others, crowd.source(two!)],
          ),
          plain: true,
        },
        {
          ...crowded(family, form, crowd, present, rules, packets.slice(0, 1), [
            ...present,
            crowd.source(one!),
          ]),
          plain: true,
        },
        crowded(family, form, crowd, present, rules, packets, [...present, crowd.source(two!)]),
      ]);
    });
}

/** In a full set that lets others make room: the only entry near the key's home goes; where there is none, nothing does. */
export function evictingCases(family: Family): CrowdedCase[] {
  const crowd = new Crowd(family, sized(family, 100, ' forceadd'));
  const numbers = Array.from({ length: 255 }, (_, at) => at + 1);
  const chosen = [0, crowd.buckets - 1, 5].map((home) => numbers.find((one) => crowd.home(one) === home)!);
  return chosen.flatMap((number) => {
    const first = crowd.home(number);
    const away = crowd.from(first + MAX_DISTANCE + 1, crowd.buckets - MAX_DISTANCE - 1);
    const full = away.slice(0, 100);
    // One more than there is room for in the bucket before.
    const neighbours = crowd.at(first + crowd.buckets - 1, BUCKET_SLOTS + 1);
    const others = [
      ...full.filter((one) => !neighbours.includes(one)).slice(0, 99 - BUCKET_SLOTS),
      ...neighbours.slice(0, BUCKET_SLOTS),
    ];
    const presents: readonly (readonly [present: readonly string[], after: readonly string[]])[] = [
      [full, full],
      ...[0, 1, 2, MAX_DISTANCE].map(
        (distance) => [[...full.slice(1), ...crowd.at(first + distance, 1)], full.slice(1)] as const,
      ),
      [[...others, neighbours.at(-1)!], others],
    ];
    return FORMS.flatMap((form) =>
      presents.map(([present, after]) => {
        const kept = after === full ? full : [...after, crowd.source(number)];
        return crowded(family, form, crowd, present, [ADDS], [sourceOf(number)], kept);
      }),
    );
  });
}

/** `after`: the entries in the end. */
function crowded(
  family: Family,
  form: Form,
  crowd: Crowd,
  present: readonly string[],
  rules: readonly string[],
  packets: readonly SetPacket[],
  after: readonly string[],
): CrowdedCase {
  const sets = `${crowd.create}${present.map((entry) => `add s ${entry}\n`).join('')}`;
  return { ...setCase(family, form, sets, rules, packets), entries: after.map((entry) => `add s ${entry}`) };
}
