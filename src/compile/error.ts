/** What the compiler refuses. A ruleset is compiled whole or not at all: every refusal of a run is collected. */
import type { Span } from '../rules/index.ts';

/** Stable, listed in docs/reference/errors.md. */
export type RefusalCode =
  /** No program can ask for this, or do it; the netstack may. */
  | 'NOT_COMPILED'
  /** This hook lacks what the rule asks for. */
  | 'NOT_AT_HOOK'
  /** The chain is longer than its strategy takes. */
  | 'TOO_LONG'
  /** The rule asks for something that this form of program cannot express. */
  | 'NOT_EXPRESSIBLE';

/** One rule (or chain) that cannot be compiled. */
export interface Refusal {
  readonly code: RefusalCode;
  readonly table: string;
  readonly chain: string;
  /** From 1; 0 for the chain itself. */
  readonly rule: number;
  readonly span: Span | undefined;
  /** What it is: "match recent", "-o eth0". */
  readonly what: string;
  /** Why not, in a sentence. */
  readonly reason: string;
  /** Hooks that could run it, in the spelling of `--hook`; empty when none can. */
  readonly hooks: readonly string[];
}

/** Thrown before anything is changed; carries every refusal, in the order of the rules. */
export class CompileError extends Error {
  readonly code = 'COMPILE_REFUSED';
  readonly refusals: readonly Refusal[];
  readonly hint: string;
  /** @param hint the way out, where it is not another hook or a weaker ruleset */
  constructor(refusals: readonly Refusal[], hint: string = hintOf(refusals)) {
    const first = refusals[0];
    const more = refusals.length > 1 ? ` (and ${refusals.length - 1} more)` : '';
    super(first === undefined ? 'nothing to compile' : formatRefusal(first) + more);
    this.name = 'CompileError';
    this.refusals = refusals;
    this.hint = hint;
  }
}

/** "rules.v4:12: filter INPUT rule 3: match recent: reason; could run at netfilter". */
export function formatRefusal(refusal: Refusal): string {
  const at = refusal.span === undefined ? '' : `${refusal.span.file}:${refusal.span.line}: `;
  const place = `${refusal.table} ${refusal.chain}${refusal.rule > 0 ? ` rule ${refusal.rule}` : ''}`;
  const hooks = refusal.hooks.length > 0 ? `; could run at ${refusal.hooks.join(', ')}` : '';
  return `${at}${place}: ${refusal.what}: ${refusal.reason}${hooks}`;
}

function hintOf(refusals: readonly Refusal[]): string {
  const common = refusals
    .map((refusal) => refusal.hooks)
    .reduce<readonly string[] | undefined>(
      (all, hooks) => (all === undefined ? hooks : all.filter((hook) => hooks.includes(hook))),
      undefined,
    );
  if (common !== undefined && common.length > 0) return `all of it could run with --hook ${common[0]}`;
  return 'leave these rules out, or let --allow-partial replace them by what is at least as strict';
}
