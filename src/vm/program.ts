/** A program that is loaded into a machine. */
import type { Instruction, ProgramType } from '../isa/index.ts';
import type { Context } from './context.ts';
import type { Machine } from './machine.ts';

export class Program {
  readonly machine: Machine;
  readonly handle: number;
  readonly name: string;
  /** `undefined` for raw programs, which get memory and a length instead of a context. */
  readonly type: ProgramType | undefined;
  readonly instructions: readonly Instruction[];
  /** Address of the first decoded record. */
  readonly start: number;
  /** Addresses of the records that begin functions. */
  readonly functions: ReadonlySet<number>;
  /** Whether it walks kernel structures, where null pointers read as 0. */
  readonly followsKernelPointers: boolean;

  constructor(
    machine: Machine,
    handle: number,
    name: string,
    type: ProgramType | undefined,
    instructions: readonly Instruction[],
    start: number,
    functions: ReadonlySet<number>,
    followsKernelPointers: boolean,
  ) {
    this.machine = machine;
    this.handle = handle;
    this.name = name;
    this.type = type;
    this.instructions = instructions;
    this.start = start;
    this.functions = functions;
    this.followsKernelPointers = followsKernelPointers;
  }

  /**
   * Runs the program on a context.
   *
   * @returns the low 32 bits of r0, unsigned; all 64 are in `machine.result`
   * @throws VmError with the instruction, when the program does what no verified program can
   */
  run(context: Context): number {
    return this.machine.run(this, context);
  }
}
