/** What can go wrong with supervision; the codes are stable. */

/** The codes, with what each means. */
export const SUPERVISOR_CODES = {
  HOST_COMMAND_NOT_FOUND: 'There is no such program',
  HOST_LAUNCH_FAILED: 'The command could not be prepared: its namespaces were refused',
  HOST_LEGACY_MISSING: 'The legacy iptables program is not installed',
  HOST_NAMESPACE_TOOL_MISSING: 'unshare(1) is not installed',
  HOST_SECCOMP_REFUSED: 'The kernel, or the container, does not let system calls be handed to a supervisor',
  HOST_SUPERVISED_ALREADY: 'The process is under a supervisor already',
} as const;
export type SupervisorErrorCode = keyof typeof SUPERVISOR_CODES;

export class SupervisorError extends Error {
  readonly code: SupervisorErrorCode;
  readonly hint: string;
  constructor(code: SupervisorErrorCode, message: string, hint: string) {
    super(message);
    this.name = 'SupervisorError';
    this.code = code;
    this.hint = hint;
  }
}
