/** Errors of the virtual machine. */

/**
 * Why a program was stopped, or not loaded.
 *
 * - `VM_ACCESS`      a load or store outside every region the program may use that way
 * - `VM_BUDGET`      the instruction budget is spent
 * - `VM_CALL_DEPTH`  more than 8 frames
 * - `VM_CALL_TARGET` a call through a register that holds no function
 * - `VM_HELPER`      a helper or kernel function that this machine does not have, or may not be called here
 * - `VM_ARGUMENT`    an argument no verified program could pass (not a map, not a context …)
 * - `VM_MAP`         a map that cannot be created, or does not exist
 * - `VM_MEMORY`      the machine's memory is exhausted
 * - `VM_PROGRAM`     the bytecode is malformed, or of no type that can run here
 * - `VM_CONTEXT`     a context that does not fit the program's type
 */
export type VmErrorCode =
  | 'VM_ACCESS'
  | 'VM_BUDGET'
  | 'VM_CALL_DEPTH'
  | 'VM_CALL_TARGET'
  | 'VM_HELPER'
  | 'VM_ARGUMENT'
  | 'VM_MAP'
  | 'VM_MEMORY'
  | 'VM_PROGRAM'
  | 'VM_CONTEXT';

export interface VmErrorDetails {
  readonly hint?: string;
  /** Slot of the instruction, and its text. */
  readonly index?: number;
  readonly instruction?: string;
  readonly cause?: unknown;
}

/** Thrown by the machine; `code` is stable. */
export class VmError extends Error {
  readonly code: VmErrorCode;
  readonly hint: string | undefined;
  readonly index: number | undefined;
  readonly instruction: string | undefined;

  constructor(code: VmErrorCode, message: string, details: VmErrorDetails = {}) {
    const place =
      details.index === undefined ? '' : `instruction ${details.index} (${details.instruction ?? '?'}): `;
    super(place + message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'VmError';
    this.code = code;
    this.hint = details.hint;
    this.index = details.index;
    this.instruction = details.instruction;
  }
}
