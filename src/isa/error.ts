/** Errors of the instruction set: encoding, assembling, reading text. */

/**
 * What went wrong with an instruction or a program text.
 *
 * - `ISA_TRUNCATED`            bytes are not a whole number of 8-byte instructions, or `ld_imm64` lacks its second half
 * - `ISA_OPCODE_UNKNOWN`       no such instruction
 * - `ISA_FIELD_RANGE`          a field does not fit its width
 * - `ISA_RESERVED_FIELD`       a field that the instruction does not use is not zero
 * - `ISA_REGISTER`             no such register, or a write to the frame pointer
 * - `ISA_IMMEDIATE_RANGE`      an operand is not representable in the instruction's immediate
 * - `ISA_JUMP_RANGE`           a jump leaves the program or its function, or lands inside `ld_imm64`
 * - `ISA_LABEL`                a label is placed twice, or never
 * - `ISA_VERSION`              the instruction is newer than the instruction set version asked for
 * - `ISA_UNRESOLVED`           a symbolic reference has no value at link time
 * - `ISA_NO_EXIT`              control can run past the last instruction of a function
 * - `ISA_SYNTAX`               the text is not an instruction
 * - `ISA_NAME_UNKNOWN`         no helper, program type, map type … of this name
 */
export type IsaErrorCode =
  | 'ISA_TRUNCATED'
  | 'ISA_OPCODE_UNKNOWN'
  | 'ISA_FIELD_RANGE'
  | 'ISA_RESERVED_FIELD'
  | 'ISA_REGISTER'
  | 'ISA_IMMEDIATE_RANGE'
  | 'ISA_JUMP_RANGE'
  | 'ISA_LABEL'
  | 'ISA_VERSION'
  | 'ISA_UNRESOLVED'
  | 'ISA_NO_EXIT'
  | 'ISA_SYNTAX'
  | 'ISA_NAME_UNKNOWN';

/** Where the error is, and the way out. */
export interface IsaErrorDetails {
  /** Slot of the instruction in the program (the kernel's numbering). */
  readonly index?: number;
  /** 1-based line of program text. */
  readonly line?: number;
  readonly hint?: string;
}

/** Thrown by every function of this folder; `code` is stable. */
export class IsaError extends Error {
  readonly code: IsaErrorCode;
  readonly index: number | undefined;
  readonly line: number | undefined;
  readonly hint: string | undefined;

  constructor(code: IsaErrorCode, message: string, details: IsaErrorDetails = {}) {
    const place =
      details.line !== undefined
        ? `line ${details.line}: `
        : details.index !== undefined
          ? `instruction ${details.index}: `
          : '';
    super(place + message);
    this.name = 'IsaError';
    this.code = code;
    this.index = details.index;
    this.line = details.line;
    this.hint = details.hint;
  }
}
