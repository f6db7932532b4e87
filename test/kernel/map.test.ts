/** Maps of every type the engine uses, against a model; arenas and ring buffers shared with running programs. */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { R0, R1, R2, R3, R4, R5, R6, R10 } from '../../src/isa/index.ts';
import {
  Arena,
  BpfMap,
  deleteBatch,
  Errno,
  ensureBpffs,
  lookupBatch,
  MapFlag,
  type MapSpec,
  pin,
  possibleCpus,
  RingBuffer,
  SHARED_ARENA_BASE,
  testRun,
  UpdateFlag,
  unpin,
  updateBatch,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { loadProgram } from '../support/program.ts';

/** The compiled package, for tests that need a second process. */
const built = new URL('../../dist/kernel/index.js', import.meta.url);

const XDP_PASS = 2;
const frame = new Uint8Array(64);

/** Little-endian word of `size` bytes. */
function bytes(value: number, size: number): Uint8Array {
  const out = new Uint8Array(size);
  new DataView(out.buffer).setUint32(0, value, true);
  return out;
}

const hashTypes: readonly MapSpec[] = (
  [
    'BPF_MAP_TYPE_HASH',
    'BPF_MAP_TYPE_PERCPU_HASH',
    'BPF_MAP_TYPE_LRU_HASH',
    'BPF_MAP_TYPE_LRU_PERCPU_HASH',
  ] as const
).map((type) => ({ type, name: 'slc_map', keySize: 4, valueSize: 8, maxEntries: 64 }));

describeKernel('maps', () => {
  for (const spec of hashTypes) {
    test(`${spec.type} behaves as a dictionary`, () => {
      const key = fc.integer({ min: 0, max: 31 });
      const step = fc.oneof(
        fc.record({ op: fc.constant('set' as const), key, value: fc.nat(0xffffffff) }),
        fc.record({ op: fc.constant('add' as const), key, value: fc.nat(0xffffffff) }),
        fc.record({ op: fc.constant('delete' as const), key, value: fc.constant(0) }),
      );
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          using map = BpfMap.create(spec);
          const copies = map.transferSize / 8;
          const copiesOf = (value: number): Uint8Array => {
            const out = new Uint8Array(map.transferSize);
            for (let cpu = 0; cpu < copies; cpu++) out.set(bytes(value, 8), cpu * 8);
            return out;
          };
          const model = new Map<number, number>();
          for (const { op, key, value } of steps) {
            if (op === 'delete') expect(map.delete(key)).toBe(model.delete(key));
            else if (op === 'set' || !model.has(key)) {
              map.update(key, copiesOf(value), op === 'add' ? UpdateFlag.BPF_NOEXIST : UpdateFlag.BPF_ANY);
              model.set(key, value);
            } else {
              expect(() => map.update(key, copiesOf(value), UpdateFlag.BPF_NOEXIST)).toThrow(/EEXIST/);
            }
          }
          for (let key = 0; key < 32; key++) {
            const wanted = model.get(key);
            expect(map.lookup(key)).toEqual(wanted === undefined ? undefined : copiesOf(wanted));
          }
          const keys = [...map.entries()].map(([key]) => new DataView(key.buffer).getUint32(0, true));
          expect(keys.sort((a, b) => a - b)).toEqual([...model.keys()].sort((a, b) => a - b));
          expect(lookupBatch(map, 7).count).toBe(model.size);
        }),
        { numRuns: 30 },
      );
    });
  }

  test('arrays: indexes beyond the end, no deletion, numbers as keys and values', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'arr',
      keySize: 4,
      valueSize: 4,
      maxEntries: 3,
    });
    map.update(2, 7);
    expect(map.lookup(2)).toEqual(bytes(7, 4));
    expect(map.lookup(3)).toBeUndefined();
    expect(() => map.update(3, 7)).toThrow(/E2BIG/);
    expect(() => map.delete(1)).toThrow(/EINVAL/);
    expect([...map.keys()].map((key) => key[0])).toEqual([0, 1, 2]);
    expect(() => map.update(1, new Uint8Array(8))).toThrow(
      expect.objectContaining({ code: 'KERNEL_ARGUMENT' }),
    );
    expect(() => map.lookup(new Uint8Array(2))).toThrow(/a key has 4 bytes, got 2/);
  });

  test('per-CPU arrays carry a value for each possible CPU', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_PERCPU_ARRAY',
      name: 'pcpu',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    expect(map.lookup(0)).toHaveLength(8 * possibleCpus());
  });

  test('longest prefix wins in an LPM trie', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_LPM_TRIE',
      name: 'lpm',
      keySize: 8,
      valueSize: 4,
      maxEntries: 10,
      flags: MapFlag.BPF_F_NO_PREALLOC,
    });
    const key = (length: number, ...address: number[]): Uint8Array =>
      Uint8Array.of(length, 0, 0, 0, ...address);
    map.update(key(8, 10, 0, 0, 0), 8);
    map.update(key(24, 10, 1, 2, 0), 24);
    expect(map.lookup(key(32, 10, 1, 2, 3))).toEqual(bytes(24, 4));
    expect(map.lookup(key(32, 10, 9, 9, 9))).toEqual(bytes(8, 4));
    expect(map.lookup(key(32, 11, 0, 0, 0))).toBeUndefined();
  });

  test('queues and stacks pop with take', () => {
    for (const [type, order] of [
      ['BPF_MAP_TYPE_QUEUE', [1, 2]],
      ['BPF_MAP_TYPE_STACK', [2, 1]],
    ] as const) {
      using map = BpfMap.create({ type, name: 'q', keySize: 0, valueSize: 4, maxEntries: 2 });
      const none = new Uint8Array(0);
      map.update(none, 1);
      map.update(none, 2);
      expect(() => map.update(none, 3)).toThrow(/E2BIG/);
      expect(order.map(() => map.take(none)![0])).toEqual(order);
      expect(map.take(none)).toBeUndefined();
    }
  });

  test('a map of maps holds maps of one shape', () => {
    const inner = {
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'inner',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
    } as const;
    using one = BpfMap.create(inner);
    using other = BpfMap.create({ ...inner, maxEntries: 3 });
    for (const type of ['BPF_MAP_TYPE_ARRAY_OF_MAPS', 'BPF_MAP_TYPE_HASH_OF_MAPS'] as const) {
      using outer = BpfMap.create({
        type,
        name: 'outer',
        keySize: 4,
        valueSize: 4,
        maxEntries: 2,
        innerMap: one,
      });
      outer.update(1, one.fd.number);
      expect(outer.lookup(1)).toEqual(bytes(one.id, 4));
      if (type === 'BPF_MAP_TYPE_ARRAY_OF_MAPS')
        expect(() => outer.update(0, other.fd.number)).toThrow(/EINVAL/);
      expect(outer.delete(1)).toBe(true);
    }
  });

  test('a program array runs what its slot holds, at once', () => {
    using slots = BpfMap.create({
      type: 'BPF_MAP_TYPE_PROG_ARRAY',
      name: 'slots',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    using dispatcher = loadProgram(
      'BPF_PROG_TYPE_XDP',
      (asm) => asm.loadMap(R2, 'slots').mov(R3, 0).call('bpf_tail_call').mov(R0, 1).exit(),
      { maps: { slots } },
    );
    const run = (): number => testRun(dispatcher, { data: frame }).returnValue;
    expect(run()).toBe(1);
    for (const verdict of [2, 3]) {
      using target = loadProgram('BPF_PROG_TYPE_XDP', (asm) => asm.mov(R0, verdict).exit());
      slots.update(0, target.fd.number);
      expect(run()).toBe(verdict);
    }
    slots.delete(0);
    expect(run()).toBe(1);
  });

  test('batches move many elements a call, and every size of them', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_HASH',
      name: 'batch',
      keySize: 4,
      valueSize: 8,
      maxEntries: 5000,
    });
    const count = 3000;
    const keys = new Uint8Array(Uint32Array.from({ length: count }, (_, index) => index * 7).buffer);
    const values = new Uint8Array(BigUint64Array.from({ length: count }, (_, index) => BigInt(index)).buffer);
    updateBatch(map, { count, keys, values });
    for (const chunk of [1, 100, 5000]) {
      const all = lookupBatch(map, chunk);
      expect(all.count).toBe(count);
      const seen = new Map(
        Array.from(new Uint32Array(all.keys.buffer), (key, index) => [
          key,
          new BigUint64Array(all.values.buffer)[index],
        ]),
      );
      expect(seen.get(7 * 1234)).toBe(1234n);
      expect(seen.size).toBe(count);
    }
    deleteBatch(map, keys.subarray(0, 4 * 1000));
    expect(lookupBatch(map).count).toBe(2000);
    expect(() => updateBatch(map, { count: 2, keys: new Uint8Array(4), values: new Uint8Array(16) })).toThrow(
      expect.objectContaining({ code: 'KERNEL_ARGUMENT' }),
    );
  });

  test('a frozen map can be read but not changed from here', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'fro',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    map.update(0, 1);
    map.freeze();
    expect(() => map.update(0, 2)).toThrow(expect.objectContaining({ errno: Errno.EPERM }));
    expect(map.lookup(0)).toEqual(bytes(1, 4));
  });

  test('a mapped array is the same memory; after unmapping, old views are harmless', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'mm',
      keySize: 4,
      valueSize: 12,
      maxEntries: 100,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    const mapping = map.mmap();
    const view = new Uint8Array(mapping.buffer);
    view[16 * 99] = 5;
    expect(map.lookup(99)![0]).toBe(5);
    map.update(3, new Uint8Array(12).fill(9));
    expect(view[16 * 3 + 11]).toBe(9);
    mapping.unmap();
    mapping.unmap();
    expect(view[16 * 99]).toBe(0);
    view[0] = 1;
    expect(map.lookup(0)![0]).toBe(0);
    using plain = BpfMap.create({
      type: 'BPF_MAP_TYPE_HASH',
      name: 'p',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    expect(() => plain.mmap()).toThrow(/BPF_F_MMAPABLE|cannot be mapped/);
  });

  test('names, sizes and types that no kernel takes are told before or by the call', () => {
    const spec = { type: 'BPF_MAP_TYPE_HASH', name: 'ok', keySize: 4, valueSize: 4, maxEntries: 1 } as const;
    for (const name of ['sixteen_letters_', 'a-b', 'ä']) {
      expect(() => BpfMap.create({ ...spec, name })).toThrow(
        expect.objectContaining({ code: 'KERNEL_ARGUMENT' }),
      );
    }
    expect(() => BpfMap.create({ ...spec, keySize: 0 })).toThrow(
      expect.objectContaining({ code: 'SYSCALL_EINVAL' }),
    );
    const before = readdirSync('/proc/self/fd').length;
    expect(() => BpfMap.create({ ...spec, maxEntries: 0 })).toThrow();
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('maps are found by id, and closed ones say so', () => {
    const map = BpfMap.create({
      type: 'BPF_MAP_TYPE_HASH',
      name: 'byid',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    const { id } = map;
    using again = BpfMap.byId(id);
    expect(again?.describe()).toEqual(map.describe());
    map.close();
    map.close();
    expect(() => map.lookup(1)).toThrow(expect.objectContaining({ code: 'FD_CLOSED' }));
    again?.close();
    expect(BpfMap.byId(0x7fffffff)).toBeUndefined();
  });
});

describeKernel('arenas', () => {
  test('a program and user space see each other’s plain stores', () => {
    using arena = Arena.create({ name: 'slc_arena', pages: 4 });
    const words = new BigUint64Array(arena.buffer);
    words[512] = 41n;
    using program = loadProgram(
      'BPF_PROG_TYPE_XDP',
      (asm) => {
        asm.loadMap(R6, 'arena').loadArena(R1, 'arena', 4096).castToKernel(R1, R1);
        asm.load('u64', R0, R1, 0).add(R0, 1).store('u64', R1, 8, R0).exit();
      },
      { arenas: { arena } },
    );
    expect(testRun(program, { data: frame }).returnValue).toBe(42);
    expect(words[513]).toBe(42n);
    words[512] = 99n;
    expect(testRun(program, { data: frame }).returnValue).toBe(100);
  });

  test('the wanted address is the address, and a second mapping must be there too', () => {
    const address = 0x1000_0000_0000n;
    const arena = Arena.create({ name: 'slc_fixed', pages: 2, address });
    try {
      expect(arena.address).toBe(address);
      expect(arena.map.extra).toBe(address);
      const taken = BpfMap.byId(arena.map.id)!;
      expect(() => Arena.open(taken, address)).toThrow(
        expect.objectContaining({ code: 'ARENA_ADDRESS_TAKEN' }),
      );
      expect(taken.fd.closed).toBe(true);
      const elsewhere = BpfMap.byId(arena.map.id)!;
      expect(() => Arena.open(elsewhere, address + 0x1_0000_0000n)).toThrow(
        expect.objectContaining({ code: 'ARENA_ADDRESS_TAKEN' }),
      );
    } finally {
      arena.close();
    }
  });

  test.skipIf(!existsSync(built))(
    'another process maps a pinned arena at the same address and shares it',
    () => {
      const path = join(ensureBpffs(), `slc-${process.pid}-arena`);
      using arena = Arena.create({ name: 'slc_shared', pages: 1, address: SHARED_ARENA_BASE });
      const words = new BigUint64Array(arena.buffer);
      words[0] = 7n;
      pin(arena.map, path);
      try {
        const script = `
        import { Arena, openPinnedMap } from ${JSON.stringify(built.href)};
        const arena = Arena.open(openPinnedMap(${JSON.stringify(path)}), ${arena.address}n);
        const words = new BigUint64Array(arena.buffer);
        words[1] = words[0] * 6n;
        console.log(String(arena.address));
      `;
        const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
          encoding: 'utf8',
        });
        expect(child.stderr).toBe('');
        expect(BigInt(child.stdout)).toBe(arena.address);
        expect(words[1]).toBe(42n);
      } finally {
        unpin(path);
      }
    },
  );

  test('impossible arenas are refused', () => {
    expect(() => Arena.create({ name: 'a', pages: 0 })).toThrow();
    expect(() => Arena.create({ name: 'a', pages: 1, address: 123n })).toThrow(/EINVAL/);
    expect(() => Arena.create({ name: 'a', pages: 2 ** 20 + 1 })).toThrow(/E2BIG/);
  });
});

describeKernel('ring buffers', () => {
  const ring = (maxEntries = 4096): BpfMap =>
    BpfMap.create({ type: 'BPF_MAP_TYPE_RINGBUF', name: 'slc_ring', keySize: 0, valueSize: 0, maxEntries });

  /** Sends the frame's own bytes; returns 2 when they were stored, 1 when the ring was full. */
  const sender = (map: BpfMap, length: number): ReturnType<typeof loadProgram> =>
    loadProgram(
      'BPF_PROG_TYPE_XDP',
      (asm) => {
        const short = asm.label('short');
        asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2).add(R4, 56).jump('>', R4, R3, short);
        // The helper takes no packet memory, so by way of the stack.
        for (let word = 0; word < 7; word++)
          asm.load('u64', R5, R2, word * 8).store('u64', R10, word * 8 - 56, R5);
        asm
          .loadMap(R1, 'ring')
          .mov(R2, R10)
          .add(R2, -56)
          .mov(R3, length)
          .mov(R4, 0)
          .call('bpf_ringbuf_output');
        asm.jump('!=', R0, 0, short).mov(R0, XDP_PASS).exit().place(short).mov(R0, 1).exit();
      },
      { maps: { ring: map } },
    );

  test('records come out whole and in order, over many turns of the ring', () => {
    using map = ring();
    using consumer = new RingBuffer(map);
    using program = sender(map, 51);
    const data = new Uint8Array(64);
    const seen: number[] = [];
    let sent = 0;
    for (let round = 0; round < 200; round++) {
      for (let burst = 0; burst <= round % 7; burst++) {
        new DataView(data.buffer).setUint32(0, sent);
        data.fill(sent & 0xff, 4);
        expect(testRun(program, { data, dataRoom: 0 }).returnValue).toBe(XDP_PASS);
        sent++;
      }
      consumer.drain((record) => {
        const number = new DataView(record.buffer, record.byteOffset).getUint32(0);
        expect(record).toHaveLength(51);
        expect(record.subarray(4).every((byte) => byte === (number & 0xff))).toBe(true);
        seen.push(number);
      });
      expect(consumer.pendingBytes).toBe(0);
    }
    expect(seen).toEqual(Array.from({ length: sent }, (_, index) => index));
    expect(sent * 64).toBeGreaterThan(4096 * 8);
  });

  test('a full ring refuses, and has room again when records are taken; draining is bounded', () => {
    using map = ring();
    using consumer = new RingBuffer(map);
    using program = sender(map, 56);
    let stored = 0;
    while (testRun(program, { data: frame, dataRoom: 0 }).returnValue === XDP_PASS && stored < 1000) stored++;
    expect(stored).toBeGreaterThan(50);
    expect(stored).toBeLessThanOrEqual(64);
    expect(consumer.drain(() => {}, 10)).toBe(10);
    expect(testRun(program, { data: frame, dataRoom: 0 }).returnValue).toBe(XDP_PASS);
    expect(consumer.drain(() => {})).toBe(stored - 9);
    expect(consumer.drain(() => {})).toBe(0);
  });

  test('a consumer that throws has consumed the record', () => {
    using map = ring();
    using consumer = new RingBuffer(map);
    using program = sender(map, 8);
    testRun(program, { data: frame, repeat: 2 });
    expect(() =>
      consumer.drain(() => {
        throw new Error('mine');
      }),
    ).toThrow('mine');
    expect(consumer.drain(() => {})).toBe(1);
  });

  test('waiting ends with the first record, or with the time', async () => {
    using map = ring();
    using consumer = new RingBuffer(map);
    using program = sender(map, 8);
    expect(await consumer.wait(10)).toBe(false);
    testRun(program, { data: frame });
    expect(await consumer.wait(5000)).toBe(true);
    using array = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'a',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    expect(() => new RingBuffer(array)).toThrow(expect.objectContaining({ code: 'KERNEL_ARGUMENT' }));
  });
});
