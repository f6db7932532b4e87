import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { formatProgram } from './disassemble.ts';
import { parseProgram } from './parse.ts';

const listing = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n');

/** One line for each form that the kernel's log has. */
const KERNEL_FORMS = listing(`
   0: (bf) r9 = r1
   1: (b4) w0 = 2
   2: (b7) r0 = -1
   3: (18) r3 = 0x123456789abcdef0
   5: (0c) w1 += w2
   6: (1f) r1 -= r2
   7: (3c) w1 s/= w2
   8: (97) r1 s%= 7
   9: (c7) r1 s>>= 3
  10: (87) r1 = -r1
  11: (84) w1 = -w1
  12: (dc) r3 = be16 r3
  13: (d4) r3 = le64 r3
  14: (d7) r3 = bswap32 r3
  15: (bf) r1 = (s32)r2
  16: (bc) w1 = (s8)w2
  17: (bf) r1 = addr_space_cast(r2, 0, 1)
  18: (69) r4 = *(u16 *)(r1 +12)
  19: (81) r4 = *(s32 *)(r1 -4)
  20: (7a) *(u64 *)(r10 -8) = 0
  21: (73) *(u8 *)(r10 -1) = r2
  22: (c3) lock *(u32 *)(r1 +0) += r2
  23: (db) r2 = atomic64_fetch_add((u64 *)(r1 +8), r2)
  24: (c3) r2 = atomic_xchg((u32 *)(r1 +0), r2)
  25: (db) r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)
  26: (d3) r2 = load_acquire((u8 *)(r1 +0))
  27: (cb) store_release((u16 *)(r1 +2), r2)
  28: (20) r0 = *(u32 *)skb[26]
  29: (48) r0 = *(u16 *)skb[r2 + -1]
  30: (55) if r4 != 0x8 goto pc+3
  31: (2d) if r1 > r3 goto pc+2
  32: (46) if w1 & 0xffffffff goto pc+1
  33: (ce) if w1 s< w2 goto pc+0
  34: (e5) may_goto pc+2
  35: (85) call bpf_map_lookup_elem#1
  36: (06) gotol pc+0
  37: (85) call pc+2
  38: (8d) callx r1
  39: (95) exit
  40: (b7) r0 = 0
  41: (95) exit
`);

describe('the kernel notation', () => {
  test('every form is read and printed the same', () => {
    expect(formatProgram(parseProgram(KERNEL_FORMS).instructions)).toBe(KERNEL_FORMS);
  });

  test('symbolic references survive printing and reading', () => {
    const text = listing(`
   0: (18) r1 = map[flows]
   2: (18) r2 = map[counters][0]+16
   4: (18) r3 = arena[tables]+64
   6: (18) r4 = variable[bpf_prog_active]
   8: (b7) r2 = type[nf_conn]
   9: (61) r5 = *(u32 *)(r6 +sk_buff.mark)
  10: (79) r5 = *(u64 *)(r6 +net_device.nd_net.net)
  11: (61) r5 = *(u32 *)(r6 +net_device.name+12)
  12: (85) call bpf_rdonly_cast
  13: (95) exit
`);
    const program = parseProgram(text);
    expect(formatProgram(program.instructions, { references: program.references })).toBe(text);
    expect(program.references.get(10)).toEqual({ kind: 'field', struct: 'net_device', member: 'nd_net.net' });
  });

  test('labels and remarks', () => {
    const program = parseProgram(`
      ; the smallest filter
      r0 = 0
      if r2 < 0x2a goto out   // too short
      call verdict
      out: 
      exit
      verdict:
      r0 = 1
      exit
    `);
    expect(formatProgram(program.instructions, program)).toBe(
      listing(`
main:
   0: (b7) r0 = 0
   1: (a5) if r2 < 0x2a goto pc+1
   2: (85) call pc+1
   3: (95) exit
verdict:
   4: (b7) r0 = 1
   5: (95) exit
`),
    );
  });

  test.each([
    ['r11 = 1\nexit', 'ISA_REGISTER'],
    ['r1 = w2\nexit', 'ISA_SYNTAX'],
    ['r1 = be16 r2\nexit', 'ISA_SYNTAX'],
    ['if r1 > w2 goto pc+0\nexit', 'ISA_SYNTAX'],
    ['goto nowhere\nexit', 'ISA_LABEL'],
    ['goto pc+5\nexit', 'ISA_JUMP_RANGE'],
    ['5: exit', 'ISA_SYNTAX'],
    ['(b7) exit', 'ISA_SYNTAX'],
    ['r0 += 4294967296\nexit', 'ISA_SYNTAX'],
    ['r0 = 0', 'ISA_NO_EXIT'],
    ['', 'ISA_NO_EXIT'],
    ['a:\na:\nexit', 'ISA_LABEL'],
  ])('%j is refused: %s', (text, code) => {
    expect(() => parseProgram(text)).toThrow(expect.objectContaining({ code }));
  });
});

const RFC = '../shared/reference/series/bpfilter-rfc.txt';

describe('the listings of the bpfilter series', () => {
  test.skipIf(!existsSync(RFC))('are read, and printed the same in the style of 2018', () => {
    const blocks: string[][] = [];
    for (const line of readFileSync(RFC, 'utf8').split('\n')) {
      const slot = /^\s+(\d+): \([0-9a-f]{2}\) /.exec(line)?.[1];
      if (slot === undefined) continue;
      if (slot === '0') blocks.push([]);
      blocks.at(-1)!.push(line.trim());
    }
    expect(blocks.map((block) => block.length)).toEqual([26, 55, 23]);
    for (const block of blocks) {
      const printed = formatProgram(parseProgram(block.join('\n')).instructions, { style: '2018' });
      expect(printed.split('\n').map((line) => line.trim())).toEqual(block);
    }
  });
});
