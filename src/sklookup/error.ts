/** Errors of this folder: a stable `code`, and the way out as `hint`. */

/**
 * - `SOCKETS_LAYOUT`     the arena is of another version, or none of ours
 * - `SOCKETS_FULL`       no place for more labels, sockets or bindings
 */
export type SocketStateCode = 'SOCKETS_LAYOUT' | 'SOCKETS_FULL';

export class SocketStateError extends Error {
  readonly code: SocketStateCode;
  readonly hint: string;
  constructor(code: SocketStateCode, message: string, hint: string) {
    super(message);
    this.name = 'SocketStateError';
    this.code = code;
    this.hint = hint;
  }
}

/** Where in a text something stands; line and column from 1, length in characters. */
export interface TextSpan {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
}

/** One finding about a bindings file; the shape of every finding about a text. */
export interface BindingFinding {
  readonly code: BindingFindingCode;
  readonly severity: 'error';
  readonly message: string;
  readonly span: TextSpan;
  readonly sourceLine: string;
  readonly hint?: string;
}

/**
 * - `BINDINGS_SYNTAX`     words that say nothing, or in the wrong place
 * - `BINDINGS_VALUE`      a label, protocol, prefix, port or device that is none
 * - `BINDINGS_CONFLICT`   two bindings that would take the same packets with the same precedence
 * - `BINDINGS_DUPLICATE`  a label that is described twice
 */
export type BindingFindingCode =
  | 'BINDINGS_SYNTAX'
  | 'BINDINGS_VALUE'
  | 'BINDINGS_CONFLICT'
  | 'BINDINGS_DUPLICATE';

/** A bindings file that is wrong; carries all findings in the order of the file. */
export class BindingsError extends Error {
  readonly code = 'BINDINGS_INVALID';
  readonly diagnostics: readonly BindingFinding[];
  constructor(diagnostics: readonly BindingFinding[]) {
    super(diagnostics[0]?.message ?? 'invalid bindings');
    this.name = 'BindingsError';
    this.diagnostics = diagnostics;
  }
}
