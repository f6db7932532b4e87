import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runs } from '../../test/support/instructions.ts';
import { Assembler } from './assembler.ts';
import { checkProgram, jumpDistance } from './check.ts';
import { decodeProgram } from './codec.ts';
import { formatProgram } from './disassemble.ts';
import { helperId, helperName } from './helper.ts';
import { instruction } from './instruction.ts';
import { kfuncAllowed } from './kfunc.ts';
import { helperAllowed } from './program-helpers.ts';
import { link, type ReferenceResolver } from './reference.ts';
import { R0, R1, R2, R3, R6, R10 } from './register.ts';
import { MAP_TYPES, nameOf, PROGRAM_TYPES } from './types.ts';

const unresolved: ReferenceResolver = {
  map: () => undefined,
  arena: () => undefined,
  kfunc: () => undefined,
  type: () => undefined,
  variable: () => undefined,
  field: () => undefined,
};

describe('assembler', () => {
  test('emits, tags and notes', () => {
    const asm = new Assembler<string>();
    const out = asm.label('out');
    asm.mov(R0, 0).at('rule 1').note('destination port').load('u16', R3, R1, 36).jump('!=', R3, 0x3500, out);
    asm.loadWide(R2, -1n).at(undefined).mov32(R0, 1).place(out).exit();
    const program = asm.finish();
    expect(formatProgram(program.instructions, program)).toBe(
      [
        '   0: (b7) r0 = 0',
        '; destination port',
        '   1: (69) r3 = *(u16 *)(r1 +36)',
        '   2: (55) if r3 != 0x3500 goto pc+3',
        '   3: (18) r2 = 0xffffffffffffffff',
        '   5: (b4) w0 = 1',
        '   6: (95) exit',
      ].join('\n'),
    );
    expect(program.tags).toEqual([undefined, 'rule 1', 'rule 1', 'rule 1', 'rule 1', undefined, undefined]);
  });

  test('every jump arrives, near or far, over any distances', () => {
    const jumps = fc.array(
      fc.record({
        from: fc.integer({ min: 0, max: 70_000 }),
        to: fc.integer({ min: 0, max: 70_000 }),
        kind: fc.constantFrom('goto' as const, 'jump' as const, 'may' as const),
      }),
      { minLength: 1, maxLength: 6 },
    );
    fc.assert(
      fc.property(jumps, (wanted) => {
        const asm = new Assembler<number>();
        // Filler instructions are numbered by their immediate, so that a landing place can be recognised.
        const labels = wanted.map(() => asm.label());
        const places = new Map<number, number[]>();
        const sources = new Map<number, number[]>();
        for (const [id, { from, to }] of wanted.entries()) {
          places.set(to, [...(places.get(to) ?? []), id]);
          sources.set(from, [...(sources.get(from) ?? []), id]);
        }
        for (let number = 0; number <= 70_000; number++) {
          for (const id of places.get(number) ?? []) asm.place(labels[id]!);
          for (const id of sources.get(number) ?? []) {
            asm.at(id);
            const { kind } = wanted[id]!;
            if (kind === 'goto') asm.goto(labels[id]!);
            else if (kind === 'may') asm.mayGoto(labels[id]!);
            else asm.jump('s<', R1, R2, labels[id]!);
            asm.at(undefined);
          }
          asm.mov(R0, number);
        }
        const { instructions, tags } = asm.exit().finish();
        const landing = (start: number): number => {
          let at = start;
          // Other jumps may stand at the landing place; they belong to the same filler instruction.
          while (tags[at] !== undefined) at++;
          return instructions[at]!.imm;
        };
        for (const [id, { to }] of wanted.entries()) {
          const own = tags.flatMap((tag, slot) => (tag === id ? [slot] : []));
          const last = own.at(-1)!;
          expect(landing(last + 1 + jumpDistance(instructions[last]!)!)).toBe(to);
          if (own.length === 3) {
            expect(jumpDistance(instructions[own[0]!]!)).toBe(1);
            expect(jumpDistance(instructions[own[1]!]!)).toBe(1);
          }
        }
      }),
      { numRuns: runs(5) },
    );
  });

  test('functions: calls, addresses, and no jump between them', () => {
    const asm = new Assembler();
    const callee = asm.label('callee');
    asm.callFunction(callee).loadFunction(R2, callee).exit();
    asm.function('callee', callee);
    asm.return(7);
    const { instructions, functions } = asm.finish();
    expect(functions).toEqual([
      { name: 'main', start: 0 },
      { name: 'callee', start: 4 },
    ]);
    expect([instructions[0]!.imm, instructions[1]!.imm]).toEqual([3, 2]);

    const crossing = new Assembler();
    const inside = crossing.label('inside');
    crossing.goto(inside);
    crossing.function('other');
    crossing.mov(R0, 0).place(inside).exit();
    expect(() => crossing.finish()).toThrow(expect.objectContaining({ code: 'ISA_JUMP_RANGE' }));
  });

  test.each<[string, string, (asm: Assembler) => unknown]>([
    [
      'a 64-bit immediate that would be sign-extended',
      'ISA_IMMEDIATE_RANGE',
      (asm) => asm.mov(R0, 0xffffffff),
    ],
    [
      'a comparison with such an immediate',
      'ISA_IMMEDIATE_RANGE',
      (asm) => asm.jump('==', R0, 0x80000000, asm.label()),
    ],
    ['a 64-bit store of one', 'ISA_IMMEDIATE_RANGE', (asm) => asm.store('u64', R10, -8, 0xffffffff)],
    ['a 33-bit immediate', 'ISA_IMMEDIATE_RANGE', (asm) => asm.mov32(R0, 0x100000000)],
    ['a fraction', 'ISA_IMMEDIATE_RANGE', (asm) => asm.mov32(R0, 0.5)],
    ['a 65-bit constant', 'ISA_IMMEDIATE_RANGE', (asm) => asm.loadConstant(R0, 1n << 64n)],
    ['an inexact constant', 'ISA_IMMEDIATE_RANGE', (asm) => asm.loadConstant(R0, 2 ** 60)],
    ['a far offset', 'ISA_FIELD_RANGE', (asm) => asm.load('u8', R0, R1, 0x8000)],
    ['a label that is never placed', 'ISA_LABEL', (asm) => asm.goto(asm.label()).exit().finish()],
    ['a label placed twice', 'ISA_LABEL', (asm) => ((label) => asm.place(label).place(label))(asm.label())],
    ["another assembler's label", 'ISA_LABEL', (asm) => asm.place(new Assembler().label())],
    ['a write to r10', 'ISA_REGISTER', (asm) => asm.mov(R10, 0).exit().finish()],
    ['running off the end', 'ISA_NO_EXIT', (asm) => asm.mov(R0, 0).finish()],
    ['nothing', 'ISA_NO_EXIT', (asm) => asm.finish()],
  ])('%s is refused', (_, code, build) => {
    expect(() => build(new Assembler())).toThrow(expect.objectContaining({ code }));
  });

  test('32-bit operands take either signedness, constants the shortest form', () => {
    const asm = new Assembler();
    const end = asm.label();
    asm.mov32(R0, 0xffffffff).jump32('==', R0, 0xfffffffe, end).store('u32', R10, -4, 0xdeadbeef);
    asm.loadConstant(R1, 5).loadConstant(R1, -5).loadConstant(R1, 0xffffffff).place(end).exit();
    const { instructions } = asm.finish();
    expect(instructions.map(({ opcode, imm }) => [opcode, imm])).toEqual([
      [0xb4, -1],
      [0x16, -2],
      [0x62, 0xdeadbeef | 0],
      [0xb7, 5],
      [0xb7, -5],
      [0x18, -1],
      [0, 0],
      [0x95, 0],
    ]);
  });
});

describe('linking', () => {
  const asm = new Assembler();
  asm.loadMap(R1, 'm').loadMapValue(R1, 'v', 8).loadArena(R1, 'a', 16).callKfunc('bpf_dynptr_size');
  asm
    .movTypeId(R2, 'nf_conn')
    .loadField('u32', R3, R6, 'sk_buff', 'mark')
    .loadVariable(R3, 'runqueues')
    .exit();
  const program = asm.finish();

  test('names become numbers', () => {
    const linked = link(program, {
      map: (name) => (name === 'm' ? 3 : 4),
      arena: () => 0x1_8000_0000n,
      kfunc: () => 1000,
      type: () => 2000,
      variable: () => 3000,
      field: () => 164,
    });
    expect(formatProgram(linked, { kfuncName: () => 'bpf_dynptr_size' })).toBe(
      [
        '   0: (18) r1 = map[fd:3]',
        '   2: (18) r1 = map[fd:4][0]+8',
        '   4: (18) r1 = 0x180000010',
        '   6: (85) call bpf_dynptr_size#1000',
        '   7: (b7) r2 = 2000',
        '   8: (61) r3 = *(u32 *)(r6 +164)',
        '   9: (18) r3 = btf[id:3000]',
        '  11: (95) exit',
      ].join('\n'),
    );
  });

  test('an unknown name is an error that names it', () => {
    expect(() => link(program, unresolved)).toThrow(/instruction 0: map map\[m\] is not known/);
    expect(() => link(program, { ...unresolved, map: () => 1, arena: () => 0n })).toThrow(/bpf_dynptr_size/);
  });
});

describe('checks', () => {
  /** Each row: bytes in hex, and the code of the refusal. */
  test.each([
    ['unused src of an immediate operation', '0710000001000000', 'ISA_RESERVED_FIELD'],
    ['unused off of an addition', '0700010001000000', 'ISA_RESERVED_FIELD'],
    ['unused imm of a register operation', '0f10000001000000', 'ISA_RESERVED_FIELD'],
    ['offset 2 of a division', '3700020001000000', 'ISA_OPCODE_UNKNOWN'],
    ['imm of a negation', '8700000001000000', 'ISA_RESERVED_FIELD'],
    ['a negation with a register', '8f10000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['a byte swap of 8 bits', 'd400000008000000', 'ISA_OPCODE_UNKNOWN'],
    ['src of a byte swap', 'd410000010000000', 'ISA_RESERVED_FIELD'],
    ['a 64-bit-class swap with a register', 'df00000010000000', 'ISA_OPCODE_UNKNOWN'],
    ['a sign extension from 24 bits', 'bf10180000000000', 'ISA_OPCODE_UNKNOWN'],
    ['a 32-bit sign extension from 32 bits', 'bc10200000000000', 'ISA_OPCODE_UNKNOWN'],
    ['an address-space cast of unknown spaces', 'bf10010002000000', 'ISA_OPCODE_UNKNOWN'],
    ['a signed 8-byte load', '9910000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['imm of a load', '6110000001000000', 'ISA_RESERVED_FIELD'],
    ['src of a store of an immediate', '6210000001000000', 'ISA_RESERVED_FIELD'],
    ['imm of a store', '6310000001000000', 'ISA_RESERVED_FIELD'],
    ['an atomic subtraction', 'c310000010000000', 'ISA_OPCODE_UNKNOWN'],
    ['an atomic addition of 16 bits', 'cb10000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['dst of a call', '8501000001000000', 'ISA_RESERVED_FIELD'],
    ['off of a helper call', '8500010001000000', 'ISA_RESERVED_FIELD'],
    ['a call of an unknown kind', '8530000001000000', 'ISA_OPCODE_UNKNOWN'],
    ['a 32-bit-class call', '8600000001000000', 'ISA_OPCODE_UNKNOWN'],
    ['imm of exit', '9500000001000000', 'ISA_RESERVED_FIELD'],
    ['exit with a register', '9d00000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['imm of goto', '0500000001000000', 'ISA_RESERVED_FIELD'],
    ['off of gotol', '0600010000000000', 'ISA_RESERVED_FIELD'],
    ['src of may_goto', 'e510000000000000', 'ISA_RESERVED_FIELD'],
    ['imm of a jump on registers', '1d10000001000000', 'ISA_RESERVED_FIELD'],
    ['src of a jump on an immediate', '1510000001000000', 'ISA_RESERVED_FIELD'],
    ['jump operation 15', 'f500000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['register 11', 'b70b000000000000', 'ISA_REGISTER'],
    ['register 15 as source', 'bff0000000000000', 'ISA_REGISTER'],
    ['dst of an absolute load', '2001000000000000', 'ISA_RESERVED_FIELD'],
    ['an absolute load of 8 bytes', '3800000000000000', 'ISA_OPCODE_UNKNOWN'],
    ['the second half of ld_imm64 alone', '0000000001000000', 'ISA_OPCODE_UNKNOWN'],
  ])('%s', (_, hex, code) => {
    const bytes = Uint8Array.from(Buffer.from(`${hex}9500000000000000`, 'hex'));
    expect(() => checkProgram(decodeProgram(bytes))).toThrow(expect.objectContaining({ code, index: 0 }));
  });

  test('a second half with more than an immediate, or none at all', () => {
    const exit = instruction(0x95);
    for (const second of [instruction(1), instruction(0, 1), instruction(0, 0, 1), instruction(0, 0, 0, 1)]) {
      expect(() => checkProgram([instruction(0x18), second, exit])).toThrow(
        expect.objectContaining({ code: 'ISA_RESERVED_FIELD' }),
      );
    }
    expect(() => checkProgram([exit, instruction(0x18)])).toThrow(
      expect.objectContaining({ code: 'ISA_TRUNCATED' }),
    );
    const inside = [instruction(0x05, 0, 0, 1), instruction(0x18), instruction(0), exit];
    expect(() => checkProgram(inside)).toThrow(/lands inside ld_imm64/);
  });

  test.each([
    [1, 'a5 00 01 00 01 00 00 00'],
    [2, '16 00 01 00 01 00 00 00'],
    [2, 'db 10 00 00 01 00 00 00'],
    [3, 'bf 10 20 00 00 00 00 00'],
    [3, '37 00 01 00 03 00 00 00'],
    [3, '06 00 00 00 00 00 00 00'],
    [3, 'd7 00 00 00 10 00 00 00'],
  ] as const)('version %i does not have %s', (version, hex) => {
    const program = decodeProgram(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')));
    const whole = [...program, instruction(0x95), instruction(0x95)];
    expect(() => checkProgram(whole, { version })).toThrow(expect.objectContaining({ code: 'ISA_VERSION' }));
    expect(() => checkProgram(whole)).not.toThrow();
  });
});

describe('tables', () => {
  test('helpers have one number each, both ways', () => {
    expect(helperId('bpf_map_lookup_elem')).toBe(1);
    expect(helperName(124)).toBe('bpf_sk_assign');
    expect(helperName(0)).toBeUndefined();
    expect(helperName(212)).toBeUndefined();
  });
  test('a netfilter program has the base set and no more', () => {
    expect(helperAllowed('BPF_PROG_TYPE_NETFILTER', 'bpf_loop')).toBe(true);
    for (const refused of [
      'bpf_skb_load_bytes',
      'bpf_redirect',
      'bpf_fib_lookup',
      'bpf_csum_diff',
    ] as const) {
      expect(helperAllowed('BPF_PROG_TYPE_NETFILTER', refused)).toBe(false);
    }
    expect(kfuncAllowed('BPF_PROG_TYPE_NETFILTER', 'bpf_skb_ct_lookup')).toBe(false);
    expect(kfuncAllowed('BPF_PROG_TYPE_NETFILTER', 'bpf_dynptr_from_skb')).toBe(true);
    expect(helperAllowed('BPF_PROG_TYPE_XDP', 'bpf_get_netns_cookie')).toBe(false);
  });
  test('numbers have names', () => {
    expect(nameOf(PROGRAM_TYPES, 32)).toBe('BPF_PROG_TYPE_NETFILTER');
    expect(nameOf(MAP_TYPES, 33)).toBe('BPF_MAP_TYPE_ARENA');
    expect(nameOf(MAP_TYPES, 99)).toBeUndefined();
  });
});
