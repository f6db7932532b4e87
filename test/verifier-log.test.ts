/** Logs of several kernel versions, by shape: which sentence and which instruction they come down to. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readVerifierLog } from '../src/kernel/program/verifierlog.ts';

const cases: readonly {
  name: string;
  log: string;
  instruction: number | undefined;
  text?: string;
  summary: string;
}[] = [
  {
    name: 'registers before, complaint, statistics',
    log: `0: R1=ctx() R10=fp0
0: (79) r0 = *(u64 *)(r1 +96)
invalid bpf_context access off=96 size=8
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`,
    instruction: 0,
    text: 'r0 = *(u64 *)(r1 +96)',
    summary: 'invalid bpf_context access off=96 size=8',
  },
  {
    name: 'register states after the semicolon and on lines of their own',
    log: `func#0 @0
0: (b7) r0 = 0                        ; R0_w=0
1: (bf) r2 = r10                      ; R2_w=fp0 R10=fp0
2: R2_w=fp0
2: (79) r3 = *(u64 *)(r2 -520)
invalid read from stack R2 off=-520 size=8
processed 3 insns (limit 1000000)
`,
    instruction: 2,
    text: 'r3 = *(u64 *)(r2 -520)',
    summary: 'invalid read from stack R2 off=-520 size=8',
  },
  {
    name: 'two lines that belong together',
    log: `3: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
processed 4 insns (limit 1000000)
`,
    instruction: 3,
    summary: 'invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0); R2 offset is outside of the packet',
  },
  {
    name: 'precision back-tracking of old and new kernels',
    log: `5: (95) exit
last_idx 5 first_idx 0
regs=1 stack=0 before 4: (b7) r0 = 2
parent didn't have regs=1 stack=0 marks
mark_precise: frame0: last_idx 5 first_idx 0 subseq_idx -1
At program exit the register R0 has value (0x2; 0x0) should have been in (0x0; 0x1)
`,
    instruction: 5,
    text: 'exit',
    summary: 'At program exit the register R0 has value (0x2; 0x0) should have been in (0x0; 0x1)',
  },
  {
    name: 'a complaint about the shape names its instruction itself',
    log: 'unreachable insn 17\nprocessed 0 insns (limit 1000000)\n',
    instruction: 17,
    summary: 'unreachable insn 17',
  },
  {
    name: 'source lines and states of a loop are left out',
    log: `; for (;;)
1: (15) if r0 == 0x0 goto pc-1
infinite loop detected at insn 1
cur state: R0_w=0 R10=fp0
old state: R0_w=0 R10=fp0
processed 3 insns (limit 1000000)
`,
    instruction: 1,
    summary: 'infinite loop detected at insn 1',
  },
  { name: 'nothing was verified', log: '', instruction: undefined, summary: '' },
];

for (const { name, log, instruction, text, summary } of cases) {
  test(name, () => {
    const verdict = readVerifierLog(log);
    expect(verdict.summary).toBe(summary);
    expect(verdict.instruction).toBe(instruction);
    if (text !== undefined) expect(verdict.text).toBe(text);
  });
}

test('the last instruction before the complaint counts, however many came before', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(100_000), { minLength: 1, maxLength: 200 }), (slots) => {
      const log = slots.map((slot) => `${slot}: (b7) r0 = ${slot}  ; R0_w=${slot}`).join('\n');
      const verdict = readVerifierLog(`${log}\nR0 is at fault\nprocessed 1 insns\n`);
      expect(verdict).toEqual({
        summary: 'R0 is at fault',
        instruction: slots.at(-1),
        text: `r0 = ${slots.at(-1)}`,
      });
    }),
  );
});

test('any text gives one line', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 2000, unit: 'binary' }), (log) => {
      expect(readVerifierLog(log).summary.split('\n')).toHaveLength(1);
    }),
  );
});
