/** Collects diagnostics while text is read, so that one run shows every error of a file. */
import type { Diagnostic } from './diagnostic.ts';
import type { DiagnosticCode } from './diagnostic-codes.ts';
import type { Span } from './model.ts';

/** Something with a place on the current line. */
export interface Place {
  readonly column: number;
  readonly length: number;
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

export class Reporter {
  readonly diagnostics: Diagnostic[] = [];
  readonly file: string;
  /** The line being read, from 1, and its text. */
  line = 0;
  sourceLine = '';
  /** How many of {@link diagnostics} are errors. */
  errors = 0;

  constructor(file: string) {
    this.file = file;
  }

  span(place: Place): Span {
    return { file: this.file, line: this.line, column: place.column, length: place.length };
  }

  /** The whole line without its leading blanks. */
  wholeLine(): Place {
    const line = this.sourceLine;
    let start = 0;
    let end = line.length;
    while (start < end && isBlank(line.charCodeAt(start))) start++;
    while (end > start && isBlank(line.charCodeAt(end - 1))) end--;
    return { column: start + 1, length: Math.max(1, end - start) };
  }

  error(code: DiagnosticCode, message: string, place: Place, hint?: string): void {
    this.add(code, 'error', message, this.span(place), this.sourceLine, hint);
  }

  warning(code: DiagnosticCode, message: string, place: Place, hint?: string): void {
    this.add(code, 'warning', message, this.span(place), this.sourceLine, hint);
  }

  /** As {@link error}, for a place on an earlier line. */
  errorAt(code: DiagnosticCode, message: string, span: Span, sourceLine: string, hint?: string): void {
    this.add(code, 'error', message, span, sourceLine, hint);
  }

  private add(
    code: DiagnosticCode,
    severity: Diagnostic['severity'],
    message: string,
    span: Span,
    sourceLine: string,
    hint: string | undefined,
  ): void {
    if (severity === 'error') this.errors++;
    this.diagnostics.push({
      code,
      severity,
      message,
      span,
      sourceLine,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}
