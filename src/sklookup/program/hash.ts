/** The hash of prefixes and regions, as table/hash.ts computes it. */
import { type Assembler, R1, R2, type Register } from '../../isa/index.ts';
import { HASH_LAST, HASH_WORD } from '../layout.ts';

/** r1 = hash of the words that the emitters load into r2. Uses r1, r2. */
export function emitHash(asm: Assembler, words: readonly ((word: Register) => void)[]): void {
  asm.mov(R1, 0);
  for (const load of words) {
    load(R2);
    asm.xor32(R1, R2).alu32('mul', R1, HASH_WORD).mov32(R2, R1).rsh32(R2, 15).xor32(R1, R2);
  }
  asm.alu32('mul', R1, HASH_LAST);
}
