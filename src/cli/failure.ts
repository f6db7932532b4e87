import { type Diagnostic, formatDiagnostic, RulesetError, withoutControls } from '../rules/index.ts';
import type { CliEnvironment } from './environment.ts';
import { ExitCode } from './exit.ts';
import { RefusedError } from './rulesets.ts';

interface CodedError {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  /** Of what it speaks, where its message does not say so. */
  readonly file?: string;
}

function isCoded(error: unknown): error is CodedError {
  return error instanceof Error && typeof (error as { code?: unknown }).code === 'string';
}

/** Bindings files have findings as rulesets do. Told by its code: loading all of src/sklookup would slow every start. */
function isBindingsError(
  error: unknown,
): error is CodedError & { readonly diagnostics: readonly Diagnostic[] } {
  return isCoded(error) && error.code === 'BINDINGS_INVALID';
}

/** First parts of error codes and what they mean for the exit code; see docs/reference/errors.md. */
const EXIT_BY_PREFIX: readonly (readonly [string, number])[] = [
  ['CLI_', ExitCode.USAGE],
  ['RULESET_', ExitCode.FINDING],
  ['RULES_', ExitCode.FINDING],
  ['CAPTURE_', ExitCode.FINDING],
  ['BINDINGS_', ExitCode.FINDING],
  ['VM_', ExitCode.FINDING],
  ['PROGRAM_', ExitCode.FINDING],
  ['ISA_', ExitCode.FINDING],
  ['COMPILE_', ExitCode.UNSUPPORTED],
  ['UNSUPPORTED_', ExitCode.UNSUPPORTED],
  ['KERNEL_', ExitCode.ENVIRONMENT],
  ['HOST_POLICY_USAGE', ExitCode.USAGE],
  ['HOST_POLICY_NAME', ExitCode.USAGE],
  ['HOST_SOCKETS_NO_', ExitCode.FINDING],
  ['HOST_SET_', ExitCode.FINDING],
  ['HOST_', ExitCode.ENVIRONMENT],
  ['SOCKETS_', ExitCode.ENVIRONMENT],
  ['NETNS_', ExitCode.ENVIRONMENT],
  ['LINK_', ExitCode.ENVIRONMENT],
  ['PIN_', ExitCode.ENVIRONMENT],
  ['PROCESS_', ExitCode.ENVIRONMENT],
  ['ARENA_', ExitCode.ENVIRONMENT],
  ['SYSCALL_', ExitCode.ENVIRONMENT],
];

/** Node's file system errors carry an errno name as code. */
const SYSTEM_ERROR = /^E[A-Z0-9]+$/;

function systemMessage(error: CodedError): { message: string; hint?: string } {
  const { path = 'input', syscall } = error as { path?: string; syscall?: string };
  const place = syscall === 'write' ? 'standard output' : path;
  const reasons: Record<string, string> = {
    ENOENT: 'no such file',
    EACCES: 'permission denied',
    EPERM: 'not permitted',
    EISDIR: 'is a directory',
    ENOSPC: 'no space left on the device',
  };
  return { message: `${place}: ${reasons[error.code] ?? error.message}` };
}

/** What a failure is to whoever looks at the exit code alone. */
export function exitCodeOf(error: unknown): number {
  // A reader that closed the pipe early (head, less) is no failure of ours.
  if (isCoded(error) && error.code === 'EPIPE') return ExitCode.OK;
  if (error instanceof RefusedError) return ExitCode.UNSUPPORTED;
  if (error instanceof RulesetError || isBindingsError(error)) return ExitCode.FINDING;
  if (!isCoded(error)) return ExitCode.DEFECT;
  if (SYSTEM_ERROR.test(error.code)) return ExitCode.ENVIRONMENT;
  return EXIT_BY_PREFIX.find(([prefix]) => error.code.startsWith(prefix))?.[1] ?? ExitCode.FINDING;
}

/** Tells a failure to people or, with --json, to programs, and gives the exit code. */
export async function reportFailure(
  error: unknown,
  words: readonly string[],
  environment: CliEnvironment,
): Promise<number> {
  const exit = exitCodeOf(error);
  if (exit === ExitCode.OK) return exit;
  const json = asksForJson(words);
  if (error instanceof RulesetError || error instanceof RefusedError || isBindingsError(error)) {
    for (const diagnostic of error.diagnostics) {
      if (json) await writeJson(environment, diagnosticJson(diagnostic));
      else await environment.stderr.write(`${formatDiagnostic(diagnostic)}\n`);
    }
    if (error instanceof RefusedError && !json) await environment.stderr.write(`hint: ${error.hint}\n`);
    return exit;
  }
  if (isCoded(error)) {
    const system = SYSTEM_ERROR.test(error.code);
    const { message, hint } = system
      ? { ...systemMessage(error), hint: undefined }
      : {
          message: error.file === undefined ? error.message : `${error.file}: ${error.message}`,
          hint: error.hint,
        };
    if (json) await writeJson(environment, { code: error.code, message, hint });
    else
      await environment.stderr.write(
        withoutControls(`sluice: ${message}\n${hint === undefined ? '' : `  hint: ${hint}\n`}`),
      );
    return exit;
  }
  const message = error instanceof Error ? error.message : String(error);
  const detail =
    environment.variables.SLUICE_DEBUG === '1' && error instanceof Error ? `\n${error.stack ?? ''}` : '';
  const hint = 'this is a defect of Sluice; SLUICE_DEBUG=1 shows where';
  if (json) await writeJson(environment, { code: 'DEFECT', message, hint });
  else await environment.stderr.write(`sluice: unexpected: ${message}${detail}\n  hint: ${hint}\n`);
  return exit;
}

/** Words behind "--" are another program's, and so are all behind the names of iptables' programs, where -j is a target's. */
function asksForJson(words: readonly string[]): boolean {
  if (/^ip6?tables(-|$)/.test(words[0] ?? '')) return false;
  const end = words.indexOf('--');
  const own = end < 0 ? words : words.slice(0, end);
  return own.includes('--json') || own.includes('-j');
}

async function writeJson(
  environment: CliEnvironment,
  error: Readonly<Record<string, unknown>>,
): Promise<void> {
  const line = `${JSON.stringify({ error })}\n`;
  try {
    await environment.stdout.write(line);
  } catch {
    // Standard output is what failed, perhaps.
    await environment.stderr.write(line);
  }
}

/** The fields of one finding, as every command's --json shows them. */
export function diagnosticJson(diagnostic: Diagnostic): Readonly<Record<string, unknown>> {
  const { code, message, hint, span } = diagnostic;
  return { code, message, file: span.file, line: span.line, column: span.column, hint };
}
