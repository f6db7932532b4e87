import type { Span } from './model.ts';

/**
 * One finding about source text. `code` is stable (docs/reference/errors.md); `hint` says the way out.
 * Several are collected where that is possible, so that all errors of a file are seen at once.
 */
export interface Diagnostic {
  readonly code: string;
  readonly severity: 'error' | 'warning';
  readonly message: string;
  readonly span: Span;
  /** The whole source line, for the caret. */
  readonly sourceLine: string;
  readonly hint?: string;
}

/** Thrown when a ruleset has errors; carries all of them in source order. */
export class RulesetError extends Error {
  readonly code = 'RULESET_INVALID';
  readonly diagnostics: readonly Diagnostic[];
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics[0]?.message ?? 'invalid ruleset');
    this.name = 'RulesetError';
    this.diagnostics = diagnostics;
  }
}

/**
 * Text for a terminal: what would move its cursor or change its colours is shown as a picture of one column
 * (Unicode, Control Pictures). Line ends and tabs stay.
 */
export function withoutControls(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what it is about
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => {
    const code = control.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '\u2421' : '\ufffd';
  });
}

/** file:line:column: message, the source line, and a caret under the span. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const { span, sourceLine } = diagnostic;
  const lead = sourceLine.slice(0, span.column - 1).replace(/[^\t]/g, ' ');
  const lines = [
    `${span.file}:${span.line}:${span.column}: ${diagnostic.severity}: ${diagnostic.message}`,
    `  ${sourceLine}`,
    `  ${lead}${'^'.repeat(Math.max(1, span.length))}`,
  ];
  if (diagnostic.hint !== undefined) lines.push(`  hint: ${diagnostic.hint}`);
  return withoutControls(lines.join('\n'));
}
