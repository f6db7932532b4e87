/** The interpreter against RFC 9669: every operation with its edges, then random programs against a second implementation. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { arithmetic, imm32, oneSlot, runs, wideConstant } from '../../../test/support/instructions.ts';
import { calculate, holds } from '../../../test/support/reference.ts';
import {
  Assembler,
  encodeProgram,
  type Instruction,
  instruction,
  JUMP_CONDITIONS,
  parseProgram,
  REGISTERS,
} from '../../isa/index.ts';
import { VmError } from '../error.ts';
import { Machine } from '../machine.ts';

const machine = new Machine({ budget: 100_000 });

const run = (text: string, memory: Uint8Array = new Uint8Array(0)): string => {
  const program = machine.load(parseProgram(text));
  try {
    return `0x${machine.runRaw(program, memory).toString(16)}`;
  } finally {
    machine.unload(program);
  }
};

describe('arithmetic', () => {
  /** A program that leaves its result in r0 by falling into exit. */
  test.each([
    // 32-bit operations clear the upper half.
    ['r0 = 0xffffffffffffffff\nw0 += 1', '0x0'],
    ['r0 = 0xffffffff00000001\nw0 = w0', '0x1'],
    ['r0 = -1\nw0 |= 0', '0xffffffff'],
    ['r0 = -1\nw0 <<= 0', '0xffffffff'],
    ['r0 = -1\nw0 = -w0', '0x1'],
    ['r0 = 5\nr0 = -r0', '0xfffffffffffffffb'],
    ['r0 = 0x8000000000000000\nr0 = -r0', '0x8000000000000000'],
    // Immediates are sign-extended to 64 bits, zero-extended through 32-bit operations.
    ['r0 = -1', '0xffffffffffffffff'],
    ['w0 = -1', '0xffffffff'],
    ['r0 = 0\nr0 |= -2147483648', '0xffffffff80000000'],
    ['r0 = 1\nr0 *= -1', '0xffffffffffffffff'],
    ['r0 = 0xffffffffffffffff\nr0 *= r0', '0x1'],
    ['r0 = 0\nr0 -= 1', '0xffffffffffffffff'],
    // Shift counts are masked.
    ['r0 = 1\nr1 = 65\nr0 <<= r1', '0x2'],
    ['r0 = 1\nr1 = 33\nw0 <<= w1', '0x2'],
    ['r0 = 0x8000000000000000\nr1 = 127\nr0 >>= r1', '0x1'],
    ['r0 = 0x80000000\nr1 = 63\nw0 >>= w1', '0x1'],
    ['r0 = 0x8000000000000000\nr1 = 127\nr0 s>>= r1', '0xffffffffffffffff'],
    ['r0 = 0x80000000\nw0 s>>= 31', '0xffffffff'],
    ['r0 = 0x80000000\nr0 s>>= 31', '0x1'],
    // Division (RFC 9669 §4.1): by zero 0, remainder by zero dst, overflow wraps.
    ['r0 = 7\nr1 = 0\nr0 /= r1', '0x0'],
    ['r0 = 7\nr1 = 0\nr0 s/= r1', '0x0'],
    ['r0 = 7\nr1 = 0\nr0 %= r1', '0x7'],
    ['r0 = -7\nr1 = 0\nr0 s%= r1', '0xfffffffffffffff9'],
    ['r0 = -7\nr1 = 0\nw0 %= w1', '0xfffffff9'],
    ['r0 = 7\nr1 = 0x100000000\nw0 /= w1', '0x0'],
    ['r0 = -1\nr0 /= 2', '0x7fffffffffffffff'],
    ['r0 = -1\nr0 /= -1', '0x1'],
    ['r0 = -1\nw0 /= 2', '0x7fffffff'],
    ['r0 = -7\nr0 s/= 2', '0xfffffffffffffffd'],
    ['r0 = -7\nr0 s%= 2', '0xffffffffffffffff'],
    ['r0 = 7\nr0 s%= -2', '0x1'],
    ['r0 = -7\nw0 s/= 2', '0xfffffffd'],
    ['r0 = 0x8000000000000000\nr0 s/= -1', '0x8000000000000000'],
    ['r0 = 0x8000000000000000\nr0 s%= -1', '0x0'],
    ['r0 = 0x80000000\nw0 s/= -1', '0x80000000'],
    ['r0 = 0x80000000\nw0 s%= -1', '0x0'],
    ['r0 = 0x80000000\nr1 = -1\nw0 s/= w1', '0x80000000'],
    // Sign-extending moves.
    ['r1 = 0x80\nr0 = (s8)r1', '0xffffffffffffff80'],
    ['r1 = 0x17f\nr0 = (s8)r1', '0x7f'],
    ['r1 = 0x8000\nr0 = (s16)r1', '0xffffffffffff8000'],
    ['r1 = 0x80000000\nr0 = (s32)r1', '0xffffffff80000000'],
    ['r1 = 0x80\nw0 = (s8)w1', '0xffffff80'],
    ['r1 = 0x8000\nw0 = (s16)w1', '0xffff8000'],
    // Byte order on a little-endian machine.
    ['r0 = 0x0102030405060708\nr0 = be16 r0', '0x807'],
    ['r0 = 0x0102030405060708\nr0 = be32 r0', '0x8070605'],
    ['r0 = 0x0102030405060708\nr0 = be64 r0', '0x807060504030201'],
    ['r0 = 0x0102030405060708\nr0 = le16 r0', '0x708'],
    ['r0 = 0x0102030405060708\nr0 = le32 r0', '0x5060708'],
    ['r0 = 0x0102030405060708\nr0 = le64 r0', '0x102030405060708'],
    ['r0 = 0x0102030405060708\nr0 = bswap16 r0', '0x807'],
    ['r0 = 0x0102030405060708\nr0 = bswap32 r0', '0x8070605'],
    ['r0 = 0x0102030405060708\nr0 = bswap64 r0', '0x807060504030201'],
    // Address-space casts keep the low 32 bits.
    ['r1 = 0x100001234\nr0 = addr_space_cast(r1, 0, 1)', '0x1234'],
    ['r1 = 0x1234\nr0 = addr_space_cast(r1, 1, 0)', '0x1234'],
  ])('%j gives %s', (text, expected) => {
    expect(run(`${text}\nexit`)).toBe(expected);
  });

  /** Random straight-line programs over random registers. */
  test('random arithmetic agrees with the second implementation', () => {
    const edges = fc.constantFrom(
      0n,
      1n,
      2n ** 63n,
      2n ** 64n - 1n,
      2n ** 31n,
      2n ** 32n - 1n,
      0x80n,
      0xffff8000n,
    );
    const value = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), edges);
    fc.assert(
      fc.property(
        fc.array(value, { minLength: 10, maxLength: 10 }),
        fc.array(arithmetic, { minLength: 1, maxLength: 40 }),
        (start, body) => {
          const registers = [...start];
          const asm = new Assembler();
          for (const [number, initial] of start.entries()) asm.loadWide(REGISTERS[number]!, initial);
          const slots: Instruction[] = [...asm.exit().finish().instructions.slice(0, -1), ...body];
          for (const slot of body) registers[slot.dst] = calculate(slot, registers);
          // All registers count: fold them into r0, each shifted by its number.
          let expected = registers[0]!;
          for (let number = 1; number < 10; number++) {
            expected = BigInt.asUintN(64, (expected << 5n) | (expected >> 59n)) ^ registers[number]!;
            slots.push(...parseProgram(foldText(number)).instructions.slice(0, -1));
          }
          slots.push(instruction(0x95));
          const program = machine.load(slots);
          expect(machine.runRaw(program, new Uint8Array(0))).toBe(expected);
          machine.unload(program);
        },
      ),
      { numRuns: runs(400) },
    );
  });
});

/** r0 = rotl(r0, 5) ^ rN, with no register to spare but the stack. */
function foldText(number: number): string {
  return `
    *(u64 *)(r10 -8) = r${number}
    r${number} = r0
    r0 <<= 5
    r${number} >>= 59
    r0 |= r${number}
    r${number} = *(u64 *)(r10 -8)
    r0 ^= r${number}
    exit`;
}

describe('jumps', () => {
  test('every condition, on registers and immediates, agrees with the second implementation', () => {
    const value = fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.constantFrom(
        0n,
        1n,
        2n ** 63n,
        2n ** 63n - 1n,
        2n ** 64n - 1n,
        2n ** 31n,
        2n ** 32n,
        2n ** 32n - 1n,
      ),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(0x05, 0x06),
        fc.constantFrom(...Object.values(JUMP_CONDITIONS)),
        value,
        value,
        fc.option(imm32),
        (cls, condition, a, b, imm) => {
          const slot =
            imm === null
              ? instruction(cls | condition | 8, 1, 2, 2)
              : instruction(cls | condition, 1, 0, 2, imm);
          const asm = new Assembler();
          asm.loadWide(REGISTERS[1]!, a).loadWide(REGISTERS[2]!, b).exit();
          const prologue = asm.finish().instructions.slice(0, -1);
          const tail = parseProgram('r0 = 0\nexit\nr0 = 1\nexit').instructions;
          const program = machine.load([...prologue, slot, ...tail]);
          expect(machine.runRaw(program, new Uint8Array(0))).toBe(holds(slot, [0n, a, b]) ? 1n : 0n);
          machine.unload(program);
        },
      ),
      { numRuns: runs(1500) },
    );
  });

  test.each([
    ['loops', 'r0 = 0\nr1 = 10\nagain:\nr0 += r1\nr1 += -1\nif r1 != 0x0 goto again\nexit', '0x37'],
    ['gotol', 'r0 = 1\ngotol far\nr0 = 2\nfar:\nexit', '0x1'],
    [
      'may_goto falls through while there is budget',
      'r0 = 0\nagain:\nmay_goto out\nr0 += 1\nif r0 < 0x64 goto again\nout:\nexit',
      '0x64',
    ],
    [
      'calls keep r6..r9 and r10',
      'r6 = 6\nr9 = 9\n*(u64 *)(r10 -8) = 1\ncall f\nr0 += r6\nr0 += r9\nr1 = *(u64 *)(r10 -8)\nr0 += r1\nexit\nf:\nr6 = 0\nr9 = 0\n*(u64 *)(r10 -8) = 99\nr0 = 100\nexit',
      '0x74',
    ],
    [
      "a callee reads its caller's stack",
      '*(u64 *)(r10 -8) = 42\nr1 = r10\nr1 += -8\ncall f\nexit\nf:\nr0 = *(u64 *)(r1 +0)\nexit',
      '0x2a',
    ],
    [
      'a call through a register',
      'r3 = subprog[f]\nr1 = 20\ncallx r3\nexit\nf:\nr0 = r1\nr0 += 1\nexit',
      '0x15',
    ],
    [
      'recursion to the eighth frame',
      'r1 = 7\ncall f\nexit\nf:\nr0 = r1\nif r1 == 0x1 goto out\nr1 += -1\ncall f\nr0 += 1\nout:\nexit',
      '0x7',
    ],
  ])('%s', (_, text, expected) => {
    expect(run(text)).toBe(expected);
  });
});

describe('memory', () => {
  const bytes = (): Uint8Array => Uint8Array.of(0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x91);
  test.each([
    ['r0 = *(u8 *)(r1 +0)', '0x88'],
    ['r0 = *(u16 *)(r1 +0)', '0x7788'],
    ['r0 = *(u32 *)(r1 +0)', '0x55667788'],
    ['r0 = *(u64 *)(r1 +0)', '0x9122334455667788'],
    ['r0 = *(u32 *)(r1 +3)', '0x22334455'],
    ['r0 = *(s8 *)(r1 +0)', '0xffffffffffffff88'],
    ['r0 = *(s16 *)(r1 +6)', '0xffffffffffff9122'],
    ['r0 = *(s32 *)(r1 +4)', '0xffffffff91223344'],
    ['r0 = *(s8 *)(r1 +1)', '0x77'],
    ['*(u8 *)(r1 +0) = 511\nr0 = *(u16 *)(r1 +0)', '0x77ff'],
    ['*(u64 *)(r1 +0) = -2\nr0 = *(u64 *)(r1 +0)', '0xfffffffffffffffe'],
    ['r2 = -1\n*(u32 *)(r1 +2) = r2\nr0 = *(u64 *)(r1 +0)', '0x9122ffffffff7788'],
    ['r2 = 1\n*(u16 *)(r1 +6) = r2\nr0 = *(u64 *)(r1 +0)', '0x1334455667788'],
    // Atomics: without fetch the source stays, with it it takes the old value, 32-bit ones zero-extended.
    ['r2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = *(u64 *)(r1 +0)', '0x9122334455667789'],
    ['r2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = r2', '0x1'],
    ['r2 = 0xffffffff\nlock *(u32 *)(r1 +4) &= r2\nr0 = *(u64 *)(r1 +0)', '0x9122334455667788'],
    ['r2 = 0xf0\nlock *(u32 *)(r1 +0) |= r2\nr0 = *(u32 *)(r1 +0)', '0x556677f8'],
    ['r2 = 0xff\nlock *(u32 *)(r1 +0) ^= r2\nr0 = *(u32 *)(r1 +0)', '0x55667777'],
    ['r2 = -1\nr2 = atomic_fetch_add((u32 *)(r1 +4), r2)\nr0 = r2', '0x91223344'],
    ['r2 = 1\nr2 = atomic64_fetch_or((u64 *)(r1 +0), r2)\nr0 = *(u64 *)(r1 +0)', '0x9122334455667789'],
    ['r2 = 0xff\nr2 = atomic64_fetch_and((u64 *)(r1 +0), r2)\nr0 = *(u64 *)(r1 +0)', '0x88'],
    ['r2 = 0x88\nr2 = atomic64_fetch_xor((u64 *)(r1 +0), r2)\nr0 = *(u8 *)(r1 +0)', '0x0'],
    ['r2 = 5\nr2 = atomic_xchg((u32 *)(r1 +0), r2)\nr0 = r2', '0x55667788'],
    ['r2 = 5\nr2 = atomic64_xchg((u64 *)(r1 +0), r2)\nr0 = *(u64 *)(r1 +0)', '0x5'],
    [
      'r0 = 0x55667788\nr2 = 9\nr0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)\nr0 = *(u64 *)(r1 +0)',
      '0x9122334400000009',
    ],
    ['r0 = 1\nr2 = 9\nr0 = atomic_cmpxchg((u32 *)(r1 +4), r0, r2)', '0x91223344'],
    [
      'r0 = 1\nr2 = 9\nr0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)\nr0 = *(u64 *)(r1 +0)',
      '0x9122334455667788',
    ],
    ['r0 = 0xff55667788\nr2 = 9\nr0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)\nr0 = *(u32 *)(r1 +0)', '0x9'],
    ['r0 = load_acquire((u16 *)(r1 +6))', '0x9122'],
    ['r2 = 3\nstore_release((u8 *)(r1 +7), r2)\nr0 = *(u8 *)(r1 +7)', '0x3'],
  ])('%j gives %s', (text, expected) => {
    expect(run(`${text}\nexit`, bytes())).toBe(expected);
  });

  test('changes are seen by the caller', () => {
    const memory = bytes();
    run('*(u8 *)(r1 +1) = 0\nr0 = 0\nexit', memory);
    expect(memory[1]).toBe(0);
  });
});

describe('what must not be', () => {
  test.each([
    ['a null pointer', 'r1 = 0\nr0 = *(u8 *)(r1 +0)\nexit', 'VM_ACCESS', 1],
    ['past the end', 'r0 = *(u8 *)(r1 +8)\nexit', 'VM_ACCESS', 0],
    ['across the end', 'r0 = *(u32 *)(r1 +5)\nexit', 'VM_ACCESS', 0],
    ['before the start', 'r0 = *(u8 *)(r1 -1)\nexit', 'VM_ACCESS', 0],
    ['a 64-bit address', 'r2 = 0x100000000\nr1 += r2\nr0 = *(u8 *)(r1 +0)\nexit', 'VM_ACCESS', 3],
    ['all ones', 'r1 = -1\nr0 = *(u64 *)(r1 +0)\nexit', 'VM_ACCESS', 1],
    ["the machine's registers", 'r1 = 4096\n*(u64 *)(r1 +0) = 0\nexit', 'VM_ACCESS', 1],
    ["the machine's region table", 'r1 = 8192\n*(u64 *)(r1 +0) = 0\nexit', 'VM_ACCESS', 1],
    ['below the stack frame', 'r0 = *(u8 *)(r10 -513)\nexit', 'VM_ACCESS', 0],
    ['above the stack', 'r0 = *(u8 *)(r10 +0)\nexit', 'VM_ACCESS', 0],
    [
      "a callee's frame after its return",
      'call f\nr0 = *(u8 *)(r0 -1)\nexit\nf:\nr0 = r10\nexit',
      'VM_ACCESS',
      1,
    ],
    ['endless loops', 'again:\ngoto again\nexit', 'VM_BUDGET', 0],
    ['endless loops with may_goto', 'r0 = 0\nagain:\nr0 += 1\nif r0 > 0x0 goto again\nexit', 'VM_BUDGET', 2],
    ['endless recursion', 'call f\nexit\nf:\ncall f\nexit', 'VM_CALL_DEPTH', 2],
    ['a call to nowhere', 'r1 = 5\ncallx r1\nexit', 'VM_CALL_TARGET', 1],
    [
      'a callback that is no function',
      'r1 = 4\nr2 = 5\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit',
      'VM_CALL_TARGET',
      4,
    ],
    ['an unknown helper', 'call #999\nexit', 'VM_HELPER', 0],
    ['a helper of the kernel only', 'call bpf_get_stackid\nexit', 'VM_HELPER', 0],
    ['a map that does not exist', 'r1 = map[fd:77]\nexit', 'VM_MAP', 0],
    ['a helper without its map', 'r1 = 0\nr2 = r10\ncall bpf_map_lookup_elem\nexit', 'VM_ARGUMENT', 2],
  ])('%s is an error that names the instruction', (_, text, code, index) => {
    expect(() => run(text, new Uint8Array(8))).toThrow(expect.objectContaining({ code, index }));
  });

  test('the message says what and where', () => {
    expect(() => run('r0 = *(u32 *)(r1 +6)\nexit', new Uint8Array(8))).toThrow(
      /^instruction 0 \(r0 = \*\(u32 \*\)\(r1 \+6\)\): read of 4 bytes at 0x[0-9a-f]+: memory \+ 6$/,
    );
  });

  test('a machine works on after an error, with nothing left over', () => {
    expect(() => run('call f\nexit\nf:\nr1 = 0\nr0 = *(u8 *)(r1 +0)\nexit')).toThrow(VmError);
    expect(() => run('r0 = *(u8 *)(r10 -513)\nexit')).toThrow(expect.objectContaining({ code: 'VM_ACCESS' }));
    expect(run('r0 = *(u64 *)(r10 -512)\nr0 += r6\nexit')).toBe('0x0');
  });

  const tame = (bytes: Uint8Array): void => {
    try {
      const program = machine.load(bytes);
      try {
        machine.runRaw(program, new Uint8Array(64));
      } finally {
        machine.unload(program);
      }
    } catch (error) {
      expect(error).toBeInstanceOf(VmError);
    }
  };

  test('random bytes never do worse than a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 160 }), (bytes) => {
        tame(bytes);
        tame(bytes.subarray(0, bytes.length & ~7));
      }),
      { numRuns: runs(1500) },
    );
  });

  test('nor do random well-formed instructions', () => {
    const parts = fc.array(
      fc.oneof(
        { weight: 6, arbitrary: oneSlot.map((slot) => [slot]) },
        { weight: 1, arbitrary: wideConstant },
      ),
      {
        minLength: 1,
        maxLength: 24,
      },
    );
    fc.assert(
      fc.property(parts, (some) => {
        const slots = some.flat();
        // Bring jumps home, so that most programs are accepted.
        const home = slots.map((slot, index) => {
          const cls = slot.opcode & 7;
          if (slot.opcode === 0x06) return { ...slot, imm: Math.abs(slot.imm % slots.length) - index };
          if ((cls !== 5 && cls !== 6) || (slot.opcode & 0xf0) === 0x80 || slot.opcode === 0x95)
            return { ...slot, off: slot.off % 600 };
          return { ...slot, off: Math.abs(slot.off % slots.length) - index };
        });
        tame(encodeProgram([...home, instruction(0x95)]));
      }),
      { numRuns: runs(1500) },
    );
  });
});

describe('accounting', () => {
  test('instructions are counted one by one, through jumps, calls and helpers', () => {
    run('r0 = 0\ngoto next\nnext:\ncall f\ncall bpf_ktime_get_ns\nexit\nf:\nr0 = 1\nexit');
    expect(machine.executed).toBe(7);
    run('r1 = 10\nagain:\nr1 += -1\nif r1 != 0x0 goto again\nexit');
    expect(machine.executed).toBe(22);
  });

  test('the budget is exact to a jump', () => {
    const small = new Machine({ budget: 22 });
    const loop = (count: number): (() => bigint) => {
      const program = small.load(
        parseProgram(`r1 = ${count}\nagain:\nr1 += -1\nif r1 != 0x0 goto again\nexit`),
      );
      return () => small.runRaw(program, new Uint8Array(0));
    };
    expect(loop(10)).not.toThrow();
    expect(loop(12)).toThrow(expect.objectContaining({ code: 'VM_BUDGET' }));
  });
});
