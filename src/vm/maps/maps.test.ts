/** Maps against simple models, and against the error numbers of the kernel's own maps. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runs } from '../../../test/support/instructions.ts';
import { parseProgram } from '../../isa/index.ts';
import { Machine } from '../machine.ts';
import type { HashMap } from './hash.ts';
import { BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST, indexKey, type MapSpec } from './map.ts';
import type { ObjectMap } from './object-map.ts';
import type { QueueMap } from './queue.ts';
import type { RingBufferMap } from './ring-buffer.ts';

const spec = (over: Partial<MapSpec>): MapSpec => ({
  name: 'm',
  type: 'BPF_MAP_TYPE_HASH',
  keySize: 4,
  valueSize: 4,
  maxEntries: 8,
  ...over,
});
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const failure = (text: string): object =>
  expect.objectContaining({ code: 'VM_MAP', message: expect.stringContaining(text) });

type Step = readonly ['set', number, number, number] | readonly ['remove', number] | readonly ['get', number];
const steps = (keys: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof(
      fc.tuple(
        fc.constant('set' as const),
        fc.nat(keys - 1),
        fc.nat(255),
        fc.constantFrom(0, BPF_NOEXIST, BPF_EXIST),
      ),
      fc.tuple(fc.constant('remove' as const), fc.nat(keys - 1)),
      fc.tuple(fc.constant('get' as const), fc.nat(keys - 1)),
    ),
    { maxLength: 80 },
  );

/** What a step did: `ok`, a value, or the error's last word. */
function attempt(action: () => unknown): unknown {
  try {
    return action() ?? 'ok';
  } catch (error) {
    return (error as Error).message.split(' ').at(-1);
  }
}

describe('hash maps', () => {
  test.each([3, 4, 6, 16] as const)('keys of %i bytes behave like a Map with a limit', (keySize) => {
    fc.assert(
      fc.property(steps(14), (plan) => {
        const map = new Machine().createMap(spec({ keySize }));
        const model = new Map<number, number>();
        for (const step of plan) {
          const key = new Uint8Array(keySize).fill(step[1] * 17);
          if (step[0] === 'get') {
            expect(map.get(key)?.[0]).toBe(model.get(step[1]));
          } else if (step[0] === 'remove') {
            expect(attempt(() => map.remove(key))).toBe(model.delete(step[1]) ? 'ok' : 'ENOENT');
          } else {
            const [, number, value, flags] = step;
            const known = model.has(number);
            let expected = 'ok';
            if (known && flags === BPF_NOEXIST) expected = 'EEXIST';
            else if (!known && flags === BPF_EXIST) expected = 'ENOENT';
            else if (!known && model.size === 8) expected = 'E2BIG';
            else model.set(number, value);
            expect(attempt(() => map.set(key, bytes(value, 0, 0, 0), flags))).toBe(expected);
          }
        }
        expect(new Map([...map.entries()].map(([key, value]) => [key[0]! / 17, value[0]]))).toEqual(model);
      }),
      { numRuns: runs(60) },
    );
  });

  test('LRU: the entry that was used longest ago makes room', () => {
    fc.assert(
      fc.property(steps(14), (plan) => {
        const map = new Machine().createMap(spec({ type: 'BPF_MAP_TYPE_LRU_HASH' }));
        // A Map keeps insertion order: deleting and setting again makes a key the newest.
        const model = new Map<number, number>();
        const touch = (number: number, value: number): void => {
          model.delete(number);
          model.set(number, value);
        };
        for (const step of plan) {
          const key = indexKey(step[1]);
          if (step[0] === 'get') {
            const value = model.get(step[1]);
            if (value !== undefined) touch(step[1], value);
            const machineValue = (map as HashMap).get(key)?.[0];
            expect(machineValue).toBe(value);
            continue;
          }
          if (step[0] === 'remove') {
            expect(attempt(() => map.remove(key))).toBe(model.delete(step[1]) ? 'ok' : 'ENOENT');
            continue;
          }
          const [, number, value, flags] = step;
          const result = attempt(() => map.set(key, bytes(value, 0, 0, 0), flags));
          if (result !== 'ok') continue;
          if (!model.has(number) && model.size === 8) model.delete(model.keys().next().value!);
          touch(number, value);
        }
        expect([...map.entries()].map(([key]) => key[0]).sort()).toEqual([...model.keys()].sort());
      }),
      { numRuns: runs(100) },
    );
  });

  test('per CPU: programs see their own value, the host all of them', () => {
    const machine = new Machine({ cpus: 3 });
    const map = machine.createMap(spec({ type: 'BPF_MAP_TYPE_PERCPU_HASH', valueSize: 4 }));
    const program = machine.load(
      parseProgram(`
        *(u32 *)(r10 -4) = 7
        r2 = r10
        r2 += -4
        r1 = map[m]
        call bpf_map_lookup_elem
        if r0 == 0x0 goto out
        r1 = *(u32 *)(r0 +0)
        r1 += 1
        *(u32 *)(r0 +0) = r1
        r0 = r1
        out:
        exit`),
    );
    expect(machine.runRaw(program, bytes())).toBe(0n);
    map.set(indexKey(7), new Uint8Array(24));
    for (const cpu of [0, 1, 1, 2, 2, 2]) {
      machine.cpu = cpu;
      machine.runRaw(program, bytes());
    }
    expect([...map.get(indexKey(7))!]).toEqual([
      1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    ]);
  });
});

describe('arrays', () => {
  test('all elements exist, none can go, and no others come', () => {
    const map = new Machine().createMap(spec({ type: 'BPF_MAP_TYPE_ARRAY', valueSize: 3 }));
    map.set(indexKey(7), bytes(1, 2, 3));
    expect(map.get(indexKey(7))).toEqual(bytes(1, 2, 3));
    expect(map.get(indexKey(6))).toEqual(bytes(0, 0, 0));
    expect(map.get(indexKey(8))).toBeUndefined();
    expect(() => map.set(indexKey(8), bytes(0, 0, 0))).toThrow(failure('E2BIG'));
    expect(() => map.set(indexKey(0), bytes(0, 0, 0), BPF_NOEXIST)).toThrow(failure('EEXIST'));
    expect(() => map.set(indexKey(0), bytes(0, 0, 0), 4)).toThrow(failure('EINVAL'));
    expect(() => map.remove(indexKey(0))).toThrow(failure('EINVAL'));
    expect(() => map.set(indexKey(0), bytes(0))).toThrow(failure('values of 3 bytes'));
    expect(() => map.get(bytes(0))).toThrow(failure('keys of 4 bytes'));
  });
});

describe('LPM trie', () => {
  test('gives the longest prefix, as a linear scan does', () => {
    const prefix = fc.tuple(fc.integer({ min: 0, max: 16 }), fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(
        fc.array(prefix, { maxLength: 20 }),
        fc.array(prefix, { maxLength: 8 }),
        fc.array(fc.nat(0xffff)),
        (add, drop, ask) => {
          const map = new Machine().createMap(
            spec({ type: 'BPF_MAP_TYPE_LPM_TRIE', keySize: 6, maxEntries: 20, flags: BPF_F_NO_PREALLOC }),
          );
          const key = (length: number, data: number): Uint8Array =>
            bytes(length, 0, 0, 0, data >> 8, data & 0xff);
          const mask = (length: number): number => (0xffff0000 >> length) & 0xffff;
          const model = new Map<string, { length: number; network: number; value: number }>();
          for (const [position, [length, data]] of add.entries()) {
            const network = data & mask(length);
            model.set(`${length}/${network}`, { length, network, value: position });
            map.set(key(length, data), bytes(position, 0, 0, 0));
          }
          for (const [length, data] of drop) {
            const known = model.delete(`${length}/${data & mask(length)}`);
            expect(attempt(() => map.remove(key(length, data)))).toBe(known ? 'ok' : 'ENOENT');
          }
          for (const address of ask) {
            const best = [...model.values()]
              .filter(({ length, network }) => (address & mask(length)) === network)
              .sort((a, b) => b.length - a.length)[0];
            expect(map.get(key(16, address))?.[0]).toBe(best?.value);
          }
          expect([...map.keys()].length).toBe(model.size);
        },
      ),
      { numRuns: runs(150) },
    );
  });

  test('a full trie is ENOSPC, too long a prefix EINVAL', () => {
    const map = new Machine().createMap(
      spec({ type: 'BPF_MAP_TYPE_LPM_TRIE', keySize: 5, maxEntries: 1, flags: BPF_F_NO_PREALLOC }),
    );
    map.set(bytes(8, 0, 0, 0, 1), bytes(0, 0, 0, 0));
    expect(() => map.set(bytes(8, 0, 0, 0, 2), bytes(0, 0, 0, 0))).toThrow(failure('ENOSPC'));
    expect(() => map.set(bytes(9, 0, 0, 0, 2), bytes(0, 0, 0, 0))).toThrow(failure('EINVAL'));
    expect(() => new Machine().createMap(spec({ type: 'BPF_MAP_TYPE_LPM_TRIE', keySize: 8 }))).toThrow(
      failure('BPF_F_NO_PREALLOC'),
    );
  });
});

describe('queue, stack and ring buffer', () => {
  test.each(['BPF_MAP_TYPE_QUEUE', 'BPF_MAP_TYPE_STACK'] as const)('%s behaves like an array', (type) => {
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.tuple(fc.nat(255), fc.constantFrom(0, BPF_EXIST)), { nil: undefined })),
        (plan) => {
          const machine = new Machine();
          const map = machine.createMap(spec({ type, keySize: 0, maxEntries: 4 })) as QueueMap;
          const cell = machine.memory.allocate(8);
          const model: number[] = [];
          for (const step of plan) {
            if (step === undefined) {
              const expected = type === 'BPF_MAP_TYPE_QUEUE' ? model.shift() : model.pop();
              expect(map.pop(cell)).toBe(expected === undefined ? -2 : 0);
              if (expected !== undefined) expect(machine.memory.u8[cell]).toBe(expected);
              continue;
            }
            const [value, flags] = step;
            machine.memory.u8[cell] = value;
            const full = model.length === 4;
            expect(map.push(cell, flags)).toBe(full && flags === 0 ? -7 : 0);
            if (full && flags !== 0) model.shift();
            if (!full || flags !== 0) model.push(value);
          }
        },
      ),
      { numRuns: runs(100) },
    );
  });

  test('records come out in order, discarded ones not, and never more than fit', () => {
    const action = fc.record({
      length: fc.integer({ min: 0, max: 900 }),
      discard: fc.boolean(),
      drain: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (plan) => {
        const machine = new Machine();
        const ring = machine.createMap(
          spec({ type: 'BPF_MAP_TYPE_RINGBUF', keySize: 0, valueSize: 0, maxEntries: 4096 }),
        ) as RingBufferMap;
        const waiting: Uint8Array[] = [];
        let used = 0;
        for (const [number, { length, discard, drain }] of plan.entries()) {
          const size = Math.ceil((length + 8) / 8) * 8;
          const address = ring.reserve(length);
          expect(address !== 0).toBe(used + size <= 4095);
          if (address !== 0) {
            used += size;
            machine.memory.u8.fill(number, address, address + length);
            expect([...ring.drain()]).toEqual(waiting.splice(0));
            used = size;
            expect(ring.commit(address, discard)).toBe(true);
            expect(ring.commit(address, discard)).toBe(false);
            if (!discard) waiting.push(new Uint8Array(length).fill(number));
          }
          if (drain) {
            expect([...ring.drain()]).toEqual(waiting.splice(0));
            used = 0;
          }
          expect(ring.query(0)).toBe(used);
        }
      }),
      { numRuns: runs(100) },
    );
  });
});

describe('maps of objects', () => {
  test('inner maps must be alike, and are reached by programs', () => {
    const machine = new Machine();
    const inner = spec({ name: 'inner', type: 'BPF_MAP_TYPE_ARRAY', maxEntries: 2 });
    const outer = machine.createMap(
      spec({ name: 'outer', type: 'BPF_MAP_TYPE_ARRAY_OF_MAPS', inner }),
    ) as ObjectMap<never>;
    const good = machine.createInnerMap(inner);
    good.set(indexKey(1), bytes(5, 0, 0, 0));
    outer.put(3, good as never);
    expect(() => outer.put(8, good as never)).toThrow(failure('E2BIG'));
    expect(() => outer.put(0, machine.createInnerMap({ ...inner, maxEntries: 3 }) as never)).toThrow(
      failure('EINVAL'),
    );
    const program = machine.load(
      parseProgram(`
        *(u32 *)(r10 -4) = 3
        r2 = r10
        r2 += -4
        r1 = map[outer]
        call bpf_map_lookup_elem
        if r0 == 0x0 goto out
        *(u32 *)(r10 -4) = 1
        r2 = r10
        r2 += -4
        r1 = r0
        call bpf_map_lookup_elem
        if r0 == 0x0 goto out
        r0 = *(u32 *)(r0 +0)
        out:
        exit`),
    );
    expect(machine.runRaw(program, bytes())).toBe(5n);
  });

  test.each<[string, Partial<MapSpec>]>([
    ['no entries', { maxEntries: 0 }],
    ['an array with long keys', { type: 'BPF_MAP_TYPE_ARRAY', keySize: 8 }],
    ['a hash without keys', { keySize: 0 }],
    [
      'a ring buffer of odd size',
      { type: 'BPF_MAP_TYPE_RINGBUF', keySize: 0, valueSize: 0, maxEntries: 5000 },
    ],
    ['a map of maps without a shape', { type: 'BPF_MAP_TYPE_ARRAY_OF_MAPS' }],
    ['a queue with keys', { type: 'BPF_MAP_TYPE_QUEUE' }],
    ['a type that only the kernel has', { type: 'BPF_MAP_TYPE_STACK_TRACE' }],
    ['more than there is memory', { maxEntries: 1 << 28, valueSize: 1 << 12 }],
  ])('%s is refused', (_, over) => {
    expect(() => new Machine().createMap(spec(over))).toThrow(
      expect.objectContaining({ name: 'VmError', code: expect.stringMatching(/^VM_(MAP|MEMORY)$/) }),
    );
  });

  test('two maps of one name are refused', () => {
    const machine = new Machine();
    machine.createMap(spec({}));
    expect(() => machine.createMap(spec({}))).toThrow(failure('already'));
  });
});
