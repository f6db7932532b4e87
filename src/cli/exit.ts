/** Exit codes of every command (docs/reference/cli.md). */
export const ExitCode = {
  /** Done, nothing found. */
  OK: 0,
  /** A finding: bad rules, a difference, a failed assertion. */
  FINDING: 1,
  /** Wrong usage of the command line. */
  USAGE: 2,
  /** Not supported here: by this hook, this engine, this build. */
  UNSUPPORTED: 3,
  /** The environment refuses: privilege, kernel, file. */
  ENVIRONMENT: 4,
  /** A defect of Sluice itself. */
  DEFECT: 70,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
