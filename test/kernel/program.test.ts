/** Loading, verifier verdicts, test runs, pins, enumeration. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Assembler, R0, R1, R2, R3, R4, R10 } from '../../src/isa/index.ts';
import {
  attachNetfilter,
  BpfMap,
  createNetns,
  ensureBpffs,
  kernelBtf,
  kernelTypes,
  listIds,
  netfilterContext,
  openPinnedLink,
  openPinnedMap,
  openPinnedProgram,
  Program,
  pin,
  readSkBuffContext,
  replacePin,
  skBuffContext,
  testRun,
  unpin,
  VerifierError,
  verifierLog,
  withNetns,
  xdpContext,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { assemble, loadProgram } from '../support/program.ts';

describeKernel('programs', () => {
  const refused = (emit: (asm: Assembler) => void): VerifierError => {
    try {
      loadProgram('BPF_PROG_TYPE_XDP', emit).close();
    } catch (error) {
      if (error instanceof VerifierError) return error;
      throw error;
    }
    throw new Error('the kernel took it');
  };

  test('a refusal is one sentence with the instruction', () => {
    const cases: readonly (readonly [(asm: Assembler) => void, number | undefined, RegExp])[] = [
      [(asm) => asm.load('u64', R0, R1, 96).exit(), 0, /^invalid bpf_context access off=96 size=8$/],
      [(asm) => asm.mov(R0, 0).load('u32', R0, R2, 0).exit(), 1, /^R2 !read_ok$/],
      [
        (asm) => asm.load('u32', R2, R1, 0).load('u8', R0, R2, 0).exit(),
        1,
        /^invalid access to packet, off=0 size=1/,
      ],
      [(asm) => asm.mov(R2, 5).load('u64', R0, R2, 0).exit(), 1, /^R2 invalid mem access 'scalar'$/],
      [(asm) => asm.load('u64', R0, R10, -520).exit(), 0, /invalid read from stack/],
      [
        (asm) => asm.mov(R1, 0).call('bpf_skb_load_bytes').exit(),
        1,
        /program of this type cannot use helper bpf_skb_load_bytes/,
      ],
    ];
    for (const [emit, instruction, summary] of cases) {
      const error = refused(emit);
      expect(error.summary).toMatch(summary);
      expect([error.summary, error.instruction]).toEqual([error.summary, instruction]);
      expect(error.code).toBe('PROGRAM_REJECTED');
      expect(error.message).toContain('"slc_test"');
      expect(error.message.split('\n')).toHaveLength(1);
      expect(error.log).toContain('processed');
    }
  });

  test('a refusal far into a long program still says where, though the log is large', () => {
    const error = refused((asm) => {
      asm.mov(R0, 0);
      for (let step = 0; step < 20_000; step++) asm.add(R0, R0);
      asm.load('u64', R0, R1, 96).exit();
    });
    expect(error.instruction).toBe(20_001);
    expect(error.summary).toMatch(/^invalid bpf_context access/);
  });

  test('an endless loop is found', () => {
    const error = refused((asm) => {
      const loop = asm.label('loop');
      asm.mov(R0, 0).place(loop).jump('==', R0, 0, loop).exit();
    });
    expect(error.summary).toMatch(/infinite loop detected/);
    expect(error.instruction).toBe(1);
  });

  test('the log of an accepted program can be had', () => {
    const spec = {
      type: 'BPF_PROG_TYPE_XDP',
      name: 'slc_log',
      instructions: assemble((asm) => asm.mov(R0, 2).exit()),
    } as const;
    expect(verifierLog(spec, 2)).toMatchObject({
      accepted: true,
      log: expect.stringContaining('0: (b7) r0 = 2'),
    });
    expect(verifierLog(spec, 4).log).toMatch(/processed 2 insns/);
    const bad = { ...spec, instructions: assemble((asm) => asm.load('u64', R0, R1, 96).exit()) };
    expect(verifierLog(bad, 2)).toMatchObject({
      accepted: false,
      log: expect.stringContaining('invalid bpf_context access'),
    });
  });

  test('bytes that are no program are refused in words', () => {
    const load = (instructions: Uint8Array): unknown =>
      Program.load({ type: 'BPF_PROG_TYPE_XDP', name: 'x', instructions });
    expect(() => load(new Uint8Array(0))).toThrow(expect.objectContaining({ code: 'KERNEL_ARGUMENT' }));
    expect(() => load(new Uint8Array(12))).toThrow(expect.objectContaining({ code: 'KERNEL_ARGUMENT' }));
    expect(() => load(new Uint8Array(16).fill(0xff))).toThrow(
      expect.objectContaining({ code: 'PROGRAM_REJECTED' }),
    );
    expect(() =>
      Program.load({
        type: 'BPF_PROG_TYPE_NETFILTER',
        name: 'x',
        instructions: assemble((asm) => asm.mov(R0, 1).exit()),
      }),
    ).toThrow(
      expect.objectContaining({ code: 'PROGRAM_REJECTED', hint: expect.stringContaining('attach type') }),
    );
  });

  test('loaded programs describe themselves and are found by id', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'm',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
    });
    using program = loadProgram('BPF_PROG_TYPE_XDP', (asm) => asm.loadMapValue(R1, 'm').mov(R0, 2).exit(), {
      maps: { m: map },
    });
    const description = program.describe();
    expect(description).toMatchObject({ type: 'BPF_PROG_TYPE_XDP', name: 'slc_test', mapIds: [map.id] });
    expect(description.tag).toMatch(/^[0-9a-f]{16}$/);
    expect(description.verifiedInstructions).toBeGreaterThan(0);
    expect(program.translated().length).toBe(description.xlatedLength);
    expect(listIds('program')).toContain(description.id);
    expect(listIds('map')).toContain(map.id);
    using other = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'o',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
    });
    program.bindMap(other);
    expect([...program.describe().mapIds].sort()).toEqual([map.id, other.id].sort());
    using again = Program.byId(description.id);
    expect(again?.describe().tag).toBe(description.tag);
    expect(Program.byId(0x7fffffff)).toBeUndefined();
  });

  test('no descriptor is left behind by refusals', () => {
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 10; round++) refused((asm) => asm.load('u64', R0, R1, 96).exit());
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('kernel types: the ids and offsets that programs need are there, and work', () => {
    const types = kernelTypes();
    expect(types.kfunc('bpf_dynptr_from_skb')).toBeGreaterThan(0);
    expect(types.kfunc('no_such_function')).toBeUndefined();
    expect(types.field('nf_hook_state', 'net')).toBeGreaterThan(0);
    expect(kernelBtf().structSize('bpf_nf_ctx')).toBe(16);
    using length = loadProgram(
      'BPF_PROG_TYPE_NETFILTER',
      (asm) => {
        const yes = asm.label('yes');
        asm.load('u64', R2, R1, 8).loadField('u32', R3, R2, 'sk_buff', 'len').jump('==', R3, 77, yes);
        asm.mov(R0, 0).exit().place(yes).mov(R0, 1).exit();
      },
      { types },
    );
    expect([76, 77, 78].map((size) => testRun(length, { data: new Uint8Array(size) }).returnValue)).toEqual([
      0, 1, 0,
    ]);
  });
});

describeKernel('test runs', () => {
  const SK_PASS = 1;
  test('an XDP program may write; the frame comes back', () => {
    using program = loadProgram('BPF_PROG_TYPE_XDP', (asm) => {
      const short = asm.label('short');
      asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2).add(R4, 14).jump('>', R4, R3, short);
      asm.store('u8', R2, 0, 0xab).mov(R0, 3).exit().place(short).mov(R0, 1).exit();
    });
    const data = new Uint8Array(64).fill(1);
    const run = testRun(program, { data, repeat: 100 });
    expect(run.returnValue).toBe(3);
    expect(run.data[0]).toBe(0xab);
    expect(run.data).toHaveLength(64);
    expect(data[0]).toBe(1);
    expect(() => testRun(program, { data: new Uint8Array(13) })).toThrow(/EINVAL/);
    expect(() => testRun(program, { data, dataRoom: 10 })).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('dataRoom') }),
    );
    expect(testRun(program, { data, context: xdpContext(64, 1) }).returnValue).toBe(3);
  });

  test('a tc program reads and sets its context', () => {
    using program = loadProgram('BPF_PROG_TYPE_SCHED_CLS', (asm) =>
      asm.load('u32', R2, R1, 8).add(R2, 1).store('u32', R1, 8, R2).mov(R0, 0).exit(),
    );
    const data = new Uint8Array(64);
    const run = testRun(program, { data, context: skBuffContext({ mark: 41, ifindex: 1 }) });
    expect(readSkBuffContext(run.context)).toMatchObject({ mark: 42, ifindex: 1 });
  });

  test('a netfilter program gets the hook and family of the context', () => {
    using program = loadProgram(
      'BPF_PROG_TYPE_NETFILTER',
      (asm) => {
        const yes = asm.label('yes');
        asm.load('u64', R2, R1, 0).load('u8', R3, R2, 0).load('u8', R4, R2, 1).lsh(R4, 8).or(R3, R4);
        asm
          .jump('==', R3, (10 << 8) | 1, yes)
          .mov(R0, 0)
          .exit()
          .place(yes)
          .mov(R0, 1)
          .exit();
      },
      { types: kernelTypes() },
    );
    const v6 = new Uint8Array(14 + 40);
    v6.set([0x86, 0xdd, 0x60], 12);
    const v4 = new Uint8Array(14 + 20);
    v4.set([0x08, 0x00, 0x45], 12);
    expect(testRun(program, { data: v6, context: netfilterContext('ipv6', 1) }).returnValue).toBe(SK_PASS);
    expect(testRun(program, { data: v4, context: netfilterContext('ipv4', 1) }).returnValue).toBe(0);
    expect(() => testRun(program, { data: v4, context: netfilterContext('ipv6', 1) })).toThrow(/EINVAL/);
    expect(() => testRun(program, { data: new Uint8Array(19) })).toThrow(/EINVAL/);
    expect(() => testRun(program, { data: new Uint8Array(3713) })).toThrow(/EINVAL/);
  });
});

describeKernel('pins', () => {
  const directory = (): string => join(ensureBpffs(), `slc-${process.pid}`);

  test('maps, programs and links live on under a name; a pin is replaced in one step', () => {
    const base = directory();
    try {
      using first = BpfMap.create({
        type: 'BPF_MAP_TYPE_ARRAY',
        name: 'one',
        keySize: 4,
        valueSize: 4,
        maxEntries: 1,
      });
      using second = BpfMap.create({
        type: 'BPF_MAP_TYPE_ARRAY',
        name: 'two',
        keySize: 4,
        valueSize: 4,
        maxEntries: 1,
      });
      const path = join(base, 'deep', 'map');
      pin(first, path);
      expect(() => pin(second, path)).toThrow(expect.objectContaining({ code: 'PIN_EXISTS' }));
      replacePin(second, path);
      using opened = openPinnedMap(path);
      expect(opened?.id).toBe(second.id);
      expect(readdirSync(join(base, 'deep'))).toEqual(['map']);
      expect(openPinnedMap(join(base, 'nothing'))).toBeUndefined();
      expect(() => openPinnedProgram(path)).toThrow(expect.objectContaining({ code: 'PIN_KIND' }));
      using netns = createNetns();
      const program = loadProgram('BPF_PROG_TYPE_NETFILTER', (asm) => asm.mov(R0, 1).exit());
      const link = withNetns(netns, () => attachNetfilter(program, { family: 'ipv4', hook: 1, priority: 1 }));
      const { id } = link;
      pin(program, join(base, 'program'));
      pin(link, join(base, 'link'));
      program.close();
      link.close();
      using pinned = openPinnedLink(join(base, 'link'));
      expect(pinned?.describe()).toMatchObject({ id, kind: 'netfilter', priority: 1 });
      using pinnedProgram = openPinnedProgram(join(base, 'program'));
      expect(pinnedProgram?.name).toBe('slc_test');
      expect(unpin(join(base, 'link'))).toBe(true);
      expect(unpin(join(base, 'link'))).toBe(false);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  });

  test('names with dots and places outside of bpffs are refused in words', () => {
    using map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'm',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
    });
    const outside = mkdtempSync(join(tmpdir(), 'slc-'));
    const base = directory();
    try {
      expect(() => pin(map, join(outside, 'map'))).toThrow(expect.objectContaining({ code: 'PIN_NO_BPFFS' }));
      expect(() => pin(map, join(base, 'a.b'))).toThrow(expect.objectContaining({ code: 'PIN_NAME' }));
    } finally {
      rmSync(outside, { recursive: true });
      rmSync(base, { recursive: true, force: true });
    }
  });
});

describeKernel('random bytes as programs', () => {
  test('load, or are refused in one typed sentence', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 8, maxLength: 8 }), { minLength: 1, maxLength: 20 }),
        (slots) => {
          const instructions = Uint8Array.from(slots.flatMap((slot) => [...slot]));
          try {
            Program.load({ type: 'BPF_PROG_TYPE_XDP', name: 'slc_fuzz', instructions }).close();
          } catch (error) {
            expect(error).toBeInstanceOf(VerifierError);
            expect((error as VerifierError).message.split('\n')).toHaveLength(1);
            const index = (error as VerifierError).instruction ?? 0;
            expect(index).toBeLessThanOrEqual(slots.length);
          }
        },
      ),
      { numRuns: process.env.SLUICE_SOAK === '1' ? 100_000 : 300 },
    );
  });
});
