/** Errors of this folder: a stable `code`, and the way out as `hint`. */

/** Codes of findings about bindings files, and of files that have any, with what each means. */
export const BINDING_CODES = {
  BINDINGS_CONFLICT: 'Two bindings would take the same packets with the same precedence',
  BINDINGS_DUPLICATE: 'A label is described twice',
  BINDINGS_INVALID: 'A bindings file has findings',
  BINDINGS_SYNTAX: 'Words that say nothing, or in the wrong place',
  BINDINGS_VALUE: 'A label, protocol, prefix, port or device that is none',
} as const;

/** Codes of errors about the tables that are in force, with what each means. */
export const SOCKET_STATE_CODES = {
  SOCKETS_FULL: 'There is no place for more labels, sockets or bindings',
  SOCKETS_LAYOUT: 'The loaded tables are of another version, or none of Sluice',
} as const;
export type SocketStateCode = keyof typeof SOCKET_STATE_CODES;

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

export type BindingFindingCode = Exclude<keyof typeof BINDING_CODES, 'BINDINGS_INVALID'>;

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
