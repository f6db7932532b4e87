/** Classic BPF programs in decimal: "count,code jt jf k,…" (extensions/libxt_bpf.c, struct sock_filter). */
import { OptionError } from '../extension.ts';

export interface ClassicInstruction {
  readonly code: number;
  /** Instructions to skip when a comparison holds, and when not. */
  readonly jumpTrue: number;
  readonly jumpFalse: number;
  readonly k: number;
}

/** XT_BPF_MAX_NUM_INSTR */
const MOST = 64;

const INSTRUCTION = /^\s*([+-]?[0-9]+)\s+([+-]?[0-9]+)\s+([+-]?[0-9]+)\s+([+-]?[0-9]+)/;

/** scanf("%hu") and its like: higher bits are lost. */
function wrap(text: string, bits: number): number {
  return Number(BigInt.asUintN(bits, BigInt(text.replace('+', ''))));
}

/** @throws {OptionError} when the count is not that of the instructions, or one of them is not four numbers. */
export function parseClassicBpf(text: string): ClassicInstruction[] {
  const [count, ...words] = text.split(',');
  const length = /^\s*[0-9]+$/.test(count!) ? Number(count) : Number.NaN;
  if (!(length <= MOST) || words.length === 0)
    throw new OptionError('the program begins with the count of its instructions and a comma', {
      hint: `at most ${MOST} instructions fit`,
    });
  if (words.at(-1)!.trim() === '') words.pop();
  if (words.length !== length)
    throw new OptionError(`the program has ${words.length} instructions, and says it has ${length}`);
  return words.map((word, index) => {
    const match = INSTRUCTION.exec(word);
    if (match === null)
      throw new OptionError(`instruction ${index} is not "code jt jf k"`, {
        hint: 'four numbers in decimal',
      });
    return {
      code: wrap(match[1]!, 16),
      jumpTrue: wrap(match[2]!, 8),
      jumpFalse: wrap(match[3]!, 8),
      k: wrap(match[4]!, 32),
    };
  });
}

/** The form that {@link parseClassicBpf} reads. */
export function formatClassicBpf(program: readonly ClassicInstruction[]): string {
  const words = program.map(({ code, jumpTrue, jumpFalse, k }) => `${code} ${jumpTrue} ${jumpFalse} ${k}`);
  return [program.length, ...words].join(',');
}
