/** The table in the arena against the plain set, over random operations. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatElement,
  PlainSet,
  parseCreate,
  parseEntry,
  type SetDefinition,
  type SetElement,
} from '../../rules/index.ts';
import { GENERATIONS_OFFSET, SETS_OFFSET } from '../arena/layout.ts';
import { createSet } from './create.ts';
import { bucketsFor } from './layout.ts';
import type { SetMemory } from './memory.ts';
import type { SetTable } from './table.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

class TestMemory implements SetMemory {
  readonly buffer: ArrayBuffer;
  now = 1_000_000_000n;
  constructor(bytes = 2 ** 21) {
    this.buffer = new ArrayBuffer(bytes);
  }
  #end = GENERATIONS_OFFSET;
  #seed = 88172645463325252n;
  allocate(bytes: number): number {
    const at = this.#end;
    this.#end += Math.ceil(bytes / 4096) * 4096;
    if (this.#end > this.buffer.byteLength) throw new RangeError('no room');
    return at;
  }
  nowNs(): bigint {
    return this.now;
  }
  random64(): bigint {
    this.#seed ^= BigInt.asUintN(64, this.#seed << 13n);
    this.#seed ^= this.#seed >> 7n;
    this.#seed = BigInt.asUintN(64, this.#seed ^ (this.#seed << 17n));
    return this.#seed;
  }
}

function texts(set: PlainSet | SetTable, definition: SetDefinition, nowMs: number): string[] {
  const elements = set instanceof PlainSet ? set.elements(nowMs) : [...set.elements()];
  return elements.map((element) => formatElement(definition, element)).sort();
}

const octet = fc.integer({ min: 1, max: 6 });
const address4 = fc.tuple(octet, octet).map(([a, b]) => `10.${a % 2}.${a}.${b}`);
const address6 = fc.tuple(octet, octet).map(([a, b]) => `2001:db8:${a % 2}::${a}:${b}`);
const net4 = fc
  .tuple(address4, fc.constantFrom(8, 16, 17, 24, 31, 32))
  .map(([address, length]) => `${address}/${length}`);
const net6 = fc
  .tuple(address6, fc.constantFrom(32, 48, 64, 127, 128))
  .map(([address, length]) => `${address}/${length}`);
const port = fc.constantFrom('tcp:80', 'udp:53', 'icmp:echo-request', 'gre:0', 'tcp:81');

const KINDS: readonly (readonly [create: string, entry: fc.Arbitrary<string>])[] = [
  ['hash:ip', address4],
  ['hash:ip family inet6', address6],
  ['hash:ip netmask 24', address4],
  ['hash:ip bitmask 255.0.0.255', address4],
  ['hash:ip,port netmask 24', fc.tuple(address4, port).map((parts) => parts.join())],
  ['hash:net', net4],
  ['hash:net family inet6', net6],
  ['hash:ip,port', fc.tuple(address4, port).map((parts) => parts.join())],
  ['hash:net,port', fc.tuple(net4, port).map((parts) => parts.join())],
  ['hash:ip,port,ip', fc.tuple(address4, port, address4).map((parts) => parts.join())],
  ['hash:ip,port,net family inet6', fc.tuple(address6, port, net6).map((parts) => parts.join())],
  ['hash:net,net', fc.tuple(net4, net4).map((parts) => parts.join())],
  ['hash:net,port,net', fc.tuple(net4, port, net4).map((parts) => parts.join())],
  ['hash:net,iface', fc.tuple(net4, fc.constantFrom('eth0', 'wg-long-name0')).map((parts) => parts.join())],
  ['hash:ip,mark', fc.tuple(address4, fc.constantFrom('0x1', '7')).map((parts) => parts.join())],
  ['hash:mac', octet.map((byte) => `00:01:02:03:04:0${byte}`)],
  ['bitmap:ip range 10.0.0.0-10.1.255.255 netmask 24', address4],
  ['bitmap:port range 0-100', octet.map(String)],
  [
    'bitmap:ip,mac range 10.0.0.0-10.0.255.255',
    fc
      .tuple(octet, fc.constantFrom('', ',00:01:02:03:04:05', ',00:01:02:03:04:06'))
      .map(([last, mac]) => `10.0.0.${last}${mac}`),
  ],
];

describe('a set in the arena', () => {
  it.each(KINDS)('%s does what the plain set does', (create, entry) => {
    const operation = fc.record({
      kind: fc.constantFrom('add', 'add', 'add', 'exist', 'delete', 'look', 'wait'),
      entry,
      timeoutSec: fc.constantFrom(undefined, 0, 1, 5),
      counted: fc.boolean(),
      nomatch: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), fc.boolean(), (operations, small) => {
        const maxelem = small && create.startsWith('hash') ? ' maxelem 8' : '';
        const words = `s ${create} timeout 3 counters comment${maxelem}`.split(' ');
        const definition = parseCreate(words);
        const memory = new TestMemory();
        const table = createSet(memory, SETS_OFFSET, definition, 0);
        const now = (): number => Number(memory.now / 1_000_000n);
        const plain = new PlainSet(definition);
        for (const { kind, entry: text, timeoutSec, counted, nomatch } of operations) {
          const key = parseEntry(definition, text)[0]!;
          const element: SetElement = {
            key,
            ...(timeoutSec === undefined ? {} : { timeoutSec }),
            ...(counted ? { packets: 5n, bytes: 700n } : {}),
            comment: `of ${text}`,
            ...(nomatch && create.includes('net') ? { nomatch } : {}),
          };
          if (kind === 'wait') memory.now += 1_000_000_000n;
          else if (kind === 'delete') expect(table.delete(key)).toBe(plain.delete(key, now()));
          else if (kind === 'look') {
            const full = parseEntry(definition, text.replaceAll(/\/[0-9]+(?=,|$)/g, ''))[0]!;
            const seen = table.lookUp(full);
            const answer = seen === undefined ? 'none' : seen.nomatch === true ? 'nomatch' : 'match';
            expect(answer).toBe(plain.match(full, now()));
          } else
            expect(table.add(element, kind === 'exist')).toBe(plain.add(element, kind === 'exist', now()));
        }
        expect(texts(table, definition, now())).toEqual(texts(plain, definition, now()));
        table.flush();
        expect([...table.elements()]).toEqual([]);
        expect(table.count).toBe(0);
      }),
      { numRuns: 25 * SOAK },
    );
  });

  it('grows without losing an entry, and fills up to what it may have', () => {
    const definition = parseCreate('s hash:ip maxelem 20000'.split(' '));
    const memory = new TestMemory(2 ** 24);
    const table = createSet(memory, SETS_OFFSET, definition, 0);
    const key = (index: number): number[] => [(index * 2654435761) >>> 0 || 1];
    const outcomes = new Set<string>();
    for (let index = 1; index <= 20_000; index++) outcomes.add(table.add({ key: key(index) }, false));
    expect([...outcomes]).toEqual(['added']);
    expect(table.add({ key: key(20_001) }, false)).toBe('full');
    expect(table.add({ key: key(5) }, false)).toBe('exists');
    expect(table.count).toBe(20_000);
    for (let index = 1; index <= 20_000; index++)
      if (table.get(key(index)) === undefined) outcomes.add('lost');
    expect(outcomes.size).toBe(1);
    expect(new Set([...table.elements()].map((element) => element.key[0])).size).toBe(20_000);
    for (let index = 1; index <= 20_000; index++) table.delete(key(index));
    expect(table.count).toBe(0);
  });

  it('lets another entry make room where it is full and was created with forceadd', () => {
    const definition = parseCreate('s hash:ip maxelem 50 forceadd timeout 5'.split(' '));
    const memory = new TestMemory();
    const table = createSet(memory, SETS_OFFSET, definition, 0);
    const plain = new PlainSet(definition);
    for (let last = 1; last <= 5500; last++) {
      const key = [Math.imul(last, 2654435761) >>> 0];
      if (last % 1000 === 0) memory.now += 5_000_000_000n;
      const nowMs = Number(memory.now / 1_000_000n);
      const outcomes = [table.add({ key }, false), plain.add({ key }, false, nowMs)];
      const kept = [table.get(key) !== undefined, plain.match(key, nowMs) === 'match'];
      const sizes = [table.count, plain.elements(nowMs).length];
      if (outcomes.join() !== 'added,added' || kept.join() !== 'true,true' || Math.max(...sizes) > 50)
        expect({ last, outcomes, kept, sizes }).toEqual({});
    }
    expect([...table.elements()].length).toBe(50);
  });

  it('has room for all entries of a table made for them, whatever the secrets', () => {
    const definition = parseCreate(`s hash:ip maxelem 100000`.split(' '));
    for (let round = 0; round < 2 * SOAK; round++) {
      const memory = new TestMemory(2 ** 24);
      for (let skip = 0; skip < round * 11; skip++) memory.random64();
      const table = createSet(memory, SETS_OFFSET, definition, definition.maxelem);
      const before = table.bytes;
      const elements = Array.from({ length: definition.maxelem }, (_, index) => ({ key: [index + 1] }));
      expect(table.load(elements)).toEqual({ added: definition.maxelem, full: 0 });
      expect(table.bytes).toBe(before);
    }
    expect(bucketsFor(5)).toBe(2);
  });
});
