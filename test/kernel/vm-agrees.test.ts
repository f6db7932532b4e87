/** The virtual machine against the kernel's own execution (test runs of bpf(2)) on random programs. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as op from '../../src/isa/index.ts';
import {
  type AssembledProgram,
  encodeProgram,
  type Instruction,
  instruction,
  link,
  type ProgramType,
  parseProgram,
} from '../../src/isa/index.ts';
import { Program as KernelProgram, testRun } from '../../src/kernel/index.ts';
import { Machine, SkbContext, XdpContext } from '../../src/vm/index.ts';
import { arithmetic, imm32, runs, wideConstant } from '../support/instructions.ts';

interface Outcome {
  readonly result: number;
  readonly packet: number[];
}

const NOTHING = {
  map: () => undefined,
  arena: () => undefined,
  kfunc: () => undefined,
  type: () => undefined,
  variable: () => undefined,
  field: () => undefined,
};

function inKernel(slots: readonly Instruction[], type: ProgramType, packet: Uint8Array): Outcome {
  const program = KernelProgram.load({ name: 'slc_vm', type, instructions: encodeProgram(slots) });
  try {
    const { returnValue, data } = testRun(program, { data: packet, dataRoom: packet.length + 512 });
    return { result: returnValue, packet: [...data] };
  } finally {
    program.close();
  }
}

function inMachine(slots: readonly Instruction[], type: ProgramType, bytes: Uint8Array): Outcome {
  const machine = new Machine();
  const program = machine.load(slots, { type });
  const packet = machine.createPacket(2048).set(bytes, 14);
  const context =
    type === 'BPF_PROG_TYPE_XDP' ? new XdpContext(machine, packet) : new SkbContext(machine, packet);
  const result = program.run(context);
  return { result, packet: [...packet.bytes] };
}

const slotsOf = (program: AssembledProgram): Instruction[] => link(program, NOTHING);

function available(): boolean {
  try {
    const slots = slotsOf(parseProgram('r0 = 2\nexit'));
    return inKernel(slots, 'BPF_PROG_TYPE_XDP', new Uint8Array(64)).result === 2;
  } catch {
    return false;
  }
}

/** What the kernel's verifier refuses although the instruction set allows it: constants that shift or divide to nothing. */
function verifiable(slot: Instruction): boolean {
  if (op.isRegisterSource(slot.opcode)) return true;
  const width = op.classOf(slot.opcode) === op.BPF_ALU ? 32 : 64;
  switch (op.operationOf(slot.opcode)) {
    case op.BPF_LSH:
    case op.BPF_RSH:
    case op.BPF_ARSH:
      return slot.imm >= 0 && slot.imm < width;
    case op.BPF_DIV:
    case op.BPF_MOD:
      return slot.imm !== 0;
    default:
      return true;
  }
}

/** r9 keeps the packet. */
const usesPacketRegister = (slot: Instruction): boolean =>
  slot.dst === 9 || (op.isRegisterSource(slot.opcode) && operandIsRegister(slot) && slot.src === 9);
const operandIsRegister = (slot: Instruction): boolean => op.operationOf(slot.opcode) !== op.BPF_END;

const calculation = arithmetic.filter((slot) => verifiable(slot) && !usesPacketRegister(slot));
const register = fc.nat(8);
/** Conditional jumps forward over a few instructions. */
const jump = fc
  .tuple(
    fc.constantFrom(op.BPF_JMP, op.BPF_JMP32),
    fc.constantFrom(...Object.values(op.JUMP_CONDITIONS)),
    register,
    fc.option(register),
    imm32,
    fc.nat(4),
  )
  .map(([cls, condition, dst, src, imm, off]) =>
    src === null
      ? instruction(cls | condition, dst, 0, off, imm)
      : instruction(cls | condition | op.BPF_X, dst, src, off),
  );

const START = 40;

/** Registers r0..r8 from the packet's first bytes, the body, and the registers written back. */
function around(body: readonly Instruction[]): Instruction[] {
  const loads = Array.from({ length: 9 }, (_, number) => `r${number} = *(u64 *)(r9 +${number * 8})`);
  const stores = Array.from({ length: 9 }, (_, number) => `*(u64 *)(r9 +${START + number * 8}) = r${number}`);
  const before = parseProgram(`
    r9 = *(u32 *)(r1 +0)
    r2 = *(u32 *)(r1 +4)
    r3 = r9
    r3 += 128
    if r3 <= r2 goto long
    r0 = 0
    exit
    long:
    ${loads.join('\n')}
    exit`).instructions.slice(0, -1);
  const after = parseProgram(`${stores.join('\n')}\nr0 = 2\nexit`).instructions;
  return [...before, ...body, ...after];
}

describe.skipIf(!available())('the virtual machine gives what the kernel gives', () => {
  const packets = fc.uint8Array({ minLength: 128, maxLength: 128 });

  test('random arithmetic and jumps, all registers compared', () => {
    const piece = fc.oneof(
      { weight: 8, arbitrary: calculation.map((slot) => [slot]) },
      { weight: 2, arbitrary: jump.map((slot) => [slot]) },
      { weight: 1, arbitrary: wideConstant.filter(([slot]) => slot!.dst !== 9) },
    );
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 30 }), packets, (pieces, packet) => {
        // Jumps count pieces here; turn them into slots, and keep them within the body.
        const starts: number[] = [0];
        for (const slots of pieces) starts.push(starts.at(-1)! + slots.length);
        const body = pieces.flatMap((slots, position) => {
          const cls = op.classOf(slots[0]!.opcode);
          if (cls !== op.BPF_JMP && cls !== op.BPF_JMP32) return slots;
          const target = starts[Math.min(pieces.length, position + 1 + slots[0]!.off)]!;
          return [{ ...slots[0]!, off: target - starts[position]! - 1 }];
        });
        const slots = around(body);
        expect(inMachine(slots, 'BPF_PROG_TYPE_XDP', packet)).toEqual(
          inKernel(slots, 'BPF_PROG_TYPE_XDP', packet),
        );
      }),
      { numRuns: runs(300) },
    );
  });

  test('atomic operations on the stack', () => {
    const atomic = fc
      .tuple(
        fc.constantFrom(op.BPF_W, op.BPF_DW),
        register,
        fc.constantFrom(0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, op.BPF_XCHG, op.BPF_CMPXCHG),
      )
      .map(([size, src, imm]) => instruction(op.BPF_STX | op.BPF_ATOMIC | size, 10, src, -8, imm));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(atomic, calculation), { minLength: 1, maxLength: 20 }),
        packets,
        (body, packet) => {
          const save = parseProgram('*(u64 *)(r10 -8) = r8\nexit').instructions.slice(0, -1);
          const restore = parseProgram('r8 = *(u64 *)(r10 -8)\nexit').instructions.slice(0, -1);
          const slots = around([...save, ...body, ...restore]);
          expect(inMachine(slots, 'BPF_PROG_TYPE_XDP', packet)).toEqual(
            inKernel(slots, 'BPF_PROG_TYPE_XDP', packet),
          );
        },
      ),
      { numRuns: runs(100) },
    );
  });

  test('moving the ends of a packet', () => {
    const helper = fc.constantFrom('bpf_xdp_adjust_head', 'bpf_xdp_adjust_tail');
    fc.assert(
      fc.property(helper, fc.integer({ min: -300, max: 300 }), packets, (name, by, packet) => {
        const slots = slotsOf(parseProgram(`r2 = ${by}\ncall ${name}\nexit`));
        const kernel = inKernel(slots, 'BPF_PROG_TYPE_XDP', packet);
        const machine = inMachine(slots, 'BPF_PROG_TYPE_XDP', packet);
        expect(machine.result).toBe(kernel.result);
        // What new bytes hold is the kernel's affair at the head; at the tail they are zero.
        if (kernel.result === 0 && (name === 'bpf_xdp_adjust_tail' || by >= 0))
          expect(machine.packet).toEqual(kernel.packet);
        else expect(machine.packet.length).toBe(kernel.packet.length);
      }),
      { numRuns: runs(60) },
    );
  });

  test('checksum helpers', () => {
    const text = (field: number, from: number, to: number, size: number): string => `
      r6 = r1
      r2 = ${field}
      r3 = 0x${(from >>> 0).toString(16)}
      r4 = 0x${(to >>> 0).toString(16)}
      r5 = ${size}
      call bpf_l4_csum_replace
      r7 = r0
      r1 = r10
      r1 += -8
      *(u32 *)(r10 -8) = ${from}
      *(u32 *)(r10 -4) = ${to}
      r2 = 4
      r3 = r10
      r3 += -4
      r4 = 4
      r5 = ${field}
      call bpf_csum_diff
      r1 = r0
      r0 >>= 16
      r1 &= 65535
      r0 += r1
      r1 = r0
      r0 >>= 16
      r0 += r1
      r0 &= 65535
      r7 <<= 16
      w0 += w7
      exit`;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 140 }),
        imm32,
        imm32,
        fc.constantFrom(0, 2, 4, 0x12, 0x14, 0x22, 0x24, 0x34, 3, 0x100),
        packets,
        (field, from, to, size, bytes) => {
          // Not IP, so that any bytes are a packet.
          const packet = bytes.slice();
          packet.set([0x88, 0xb5], 12);
          const slots = slotsOf(parseProgram(text(field, from, to, size)));
          expect(inMachine(slots, 'BPF_PROG_TYPE_SCHED_CLS', packet)).toEqual(
            inKernel(slots, 'BPF_PROG_TYPE_SCHED_CLS', packet),
          );
        },
      ),
      { numRuns: runs(150) },
    );
  });

  test('loading and storing bytes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -4, max: 140 }),
        fc.integer({ min: 1, max: 8 }),
        packets,
        (offset, bytes, given) => {
          const packet = given.slice();
          packet.set([0x88, 0xb5], 12);
          const slots = slotsOf(
            parseProgram(`
            r6 = r1
            *(u64 *)(r10 -8) = -1
            r2 = ${offset}
            r3 = r10
            r3 += -8
            r4 = ${bytes}
            call bpf_skb_load_bytes
            r7 = r0
            r1 = r6
            r2 = ${offset + 3}
            r3 = r10
            r3 += -8
            r4 = ${bytes}
            r5 = 0
            call bpf_skb_store_bytes
            r0 ^= r7
            exit`),
          );
          expect(inMachine(slots, 'BPF_PROG_TYPE_SCHED_CLS', packet)).toEqual(
            inKernel(slots, 'BPF_PROG_TYPE_SCHED_CLS', packet),
          );
        },
      ),
      { numRuns: runs(100) },
    );
  });
});
