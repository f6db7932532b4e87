/** State words of a generation: allotted while rules are compiled, laid out by the image, shared by all CPUs. */
import { type Assembler, type R1, R3 } from '../../isa/index.ts';
import { Generation, STATE_SIZE } from '../arena/layout.ts';

export class StateWords {
  readonly #initial: bigint[] = [];
  readonly #byKey = new Map<string, number>();
  readonly #first: number;

  /** `first` is the number of the first word. */
  constructor(first = 0) {
    this.#first = first;
  }

  get initial(): readonly bigint[] {
    return this.#initial;
  }

  /**
   * The word of that key, made at first use: one rule has one word, however many programs it is compiled into.
   * `initial` is its value in a fresh generation.
   */
  allot(key: string, initial: bigint): number {
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const index = this.#first + this.#initial.push(initial) - 1;
    this.#byKey.set(key, index);
    return index;
  }
}

/** r3 = pointer to a state word. Uses r1. */
export function emitStatePointer(
  asm: Assembler<never> | Assembler<unknown>,
  root: typeof R1,
  index: number,
): void {
  asm.load('u32', R3, root, Generation.state);
  if (index > 0) asm.add(R3, index * STATE_SIZE);
  asm.castToKernel(R3, R3);
}
