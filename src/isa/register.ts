/** Registers as values of their own type, so that a register is never taken for an immediate (RFC 9669 §2.2). */

/** r0 result, r1..r5 arguments (lost over calls), r6..r9 preserved, r10 frame pointer (read only). */
export class Register {
  readonly number: number;
  constructor(number: number) {
    this.number = number;
  }
  toString(): string {
    return `r${this.number}`;
  }
}

export const R0: Register = new Register(0);
export const R1: Register = new Register(1);
export const R2: Register = new Register(2);
export const R3: Register = new Register(3);
export const R4: Register = new Register(4);
export const R5: Register = new Register(5);
export const R6: Register = new Register(6);
export const R7: Register = new Register(7);
export const R8: Register = new Register(8);
export const R9: Register = new Register(9);
export const R10: Register = new Register(10);

/** All registers, by number. */
export const REGISTERS: readonly Register[] = [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10];
export const FRAME_POINTER = 10;
