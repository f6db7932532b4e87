/** What a supervisor tells the process that becomes the command, and what that answers: one line of JSON each. */
import type { CallFilter } from '../../kernel/index.ts';

export interface LaunchOrder {
  readonly calls: CallFilter;
  /** A network namespace to enter first: a name of ip-netns(8) or a path. */
  readonly netns: string | undefined;
  readonly path: string;
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export type LaunchReport =
  | { readonly listener: number; readonly netnsCookie: string }
  /** A process has one listener at most: this one is under a supervisor. */
  | { readonly supervised: true }
  /** seccomp(2) gives no listener: why not. */
  | { readonly unsupervisable: string }
  | { readonly failed: string; readonly hint?: string };

/** Descriptors of the launching process: its report goes out on one, and it becomes the command when the other ends. */
export const REPORT_FD = 3;
export const GO_FD = 4;
