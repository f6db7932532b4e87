/**
 * The kernel verifier's log (kernel/bpf/verifier.c, log level 1) boiled down to one sentence and an instruction.
 *
 * The log replays the refused path: `12: (61) r0 = *(u32 *)(r1 +80)` before each instruction is checked, register states
 * in between, then the complaint in one or more lines, then `processed N insns …`.
 */

export interface VerifierVerdict {
  /** The complaint, in the kernel's words. */
  readonly summary: string;
  /** Slot of the instruction that was being checked; `undefined` when the complaint is about the whole program. */
  readonly instruction: number | undefined;
  /** That instruction as the kernel prints it. */
  readonly text: string | undefined;
}

const instructionLine = /^(\d+): \([0-9a-f]{2}\) (.*?)(?:\s*;.*)?$/;
const noise = [
  /^processed \d+ insns/,
  /^verification time /,
  /^stack depth /,
  /^insns processed /,
  /^mark_precise: /,
  /^arg#\d+ reference type/,
  /^func#\d+ @/,
  /^Live regs before insn/,
  /^(?:cur|old) state: /,
  // Back-tracking for precision, as kernels before 6.4 print it.
  /^(?:last_idx|regs=|parent (?:didn't have|already had))/,
  /^from \d+ to \d+:/,
  /^\d+: R\d/,
  /^(?:\d+: )?R\d+(?:_w|_r|_rw)?=/,
  /^; /,
  /^\s*$/,
];

/** Reads a log. An empty one gives an empty summary: the kernel refused before it verified anything. */
export function readVerifierLog(log: string): VerifierVerdict {
  const lines = log.split('\n').map((line) => line.trimEnd());
  let instruction: number | undefined;
  let text: string | undefined;
  let last = -1;
  for (const [index, line] of lines.entries()) {
    const match = instructionLine.exec(line);
    if (match === null) continue;
    instruction = Number(match[1]);
    text = match[2];
    last = index;
  }
  const complaint = lines.slice(last + 1).filter((line) => !noise.some((pattern) => pattern.test(line)));
  const summary = complaint.map((line) => line.trim()).join('; ');
  // Complaints about the shape of the program (unreachable, jumps, subprograms) name the instruction themselves.
  const named = /\binsn (\d+)/.exec(summary);
  if (instruction === undefined && named !== null) instruction = Number(named[1]);
  return { summary, instruction, text };
}
