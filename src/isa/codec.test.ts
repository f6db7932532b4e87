import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { oneSlot, runs, wideConstant } from '../../test/support/instructions.ts';
import { checkInstruction } from './check.ts';
import { decodeProgram, encodeProgram } from './codec.ts';
import { formatProgram } from './disassemble.ts';
import { IsaError } from './error.ts';
import { matchInstruction } from './grammar.ts';
import { instruction } from './instruction.ts';

const anyInstructions = fc.array(
  fc.oneof(
    oneSlot.map((slot) => [slot]),
    wideConstant,
  ),
  { maxLength: 30 },
);

describe('codec', () => {
  test('bytes and slots are two forms of the same program', () => {
    fc.assert(
      fc.property(anyInstructions, (parts) => {
        const program = parts.flat();
        expect(decodeProgram(encodeProgram(program))).toEqual(program);
      }),
      { numRuns: runs(500) },
    );
  });

  test('any bytes decode to slots that encode to the same bytes, or are refused as truncated', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          expect(encodeProgram(decodeProgram(bytes))).toEqual(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(IsaError);
          expect((error as IsaError).code).toBe('ISA_TRUNCATED');
        }
      }),
      { numRuns: runs(500) },
    );
  });

  test('layout of one slot: opcode, dst | src << 4, off and imm little endian (RFC 9669 §3.2)', () => {
    const bytes = encodeProgram([instruction(0x7b, 10, 3, -8, -2)]);
    expect([...bytes]).toEqual([0x7b, 0x3a, 0xf8, 0xff, 0xfe, 0xff, 0xff, 0xff]);
  });

  test('a field that does not fit is refused', () => {
    for (const bad of [
      instruction(0x100),
      instruction(0xb7, 16),
      instruction(0xb7, 0, -1),
      instruction(0xb7, 0, 0, 0x8000),
      instruction(0xb7, 0, 0, 0, 0x80000000),
      instruction(0xb7, 0, 0, 0, 0.5),
    ]) {
      expect(() => encodeProgram([bad])).toThrow(expect.objectContaining({ code: 'ISA_FIELD_RANGE' }));
    }
  });
});

describe('text', () => {
  test('what the disassembler prints, the parser reads back', () => {
    fc.assert(
      fc.property(anyInstructions, (parts) => {
        for (const part of parts) {
          checkInstruction(part, 0);
          const listing = formatProgram(part);
          const [, opcode, body] = /\((..)\) (.*)$/.exec(listing)!;
          const read = matchInstruction(body!, Number.parseInt(opcode!, 16));
          expect(read, listing).toBeDefined();
          const { dst, src, off, imm, high } = read!;
          expect({ opcode: read!.opcode, dst, src, off, imm }, listing).toEqual(part[0]);
          if (part.length === 2) expect(high).toBe(part[1]!.imm);
        }
      }),
      { numRuns: runs(500) },
    );
  });

  test('and without the opcode too, so the notation is unambiguous', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          oneSlot.map((slot) => [slot]),
          wideConstant,
        ),
        (part) => {
          const [, body] = /\(..\) (.*)$/.exec(formatProgram(part))!;
          expect(matchInstruction(body!, undefined)).toMatchObject(part[0]!);
        },
      ),
      { numRuns: runs(2000) },
    );
  });
});
