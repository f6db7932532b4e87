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
  return lines.join('\n');
}
