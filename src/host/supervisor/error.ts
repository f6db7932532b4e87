export type SupervisorErrorCode =
  | 'HOST_LEGACY_MISSING'
  | 'HOST_COMMAND_NOT_FOUND'
  | 'HOST_NAMESPACE_TOOL_MISSING'
  | 'HOST_LAUNCH_FAILED'
  | 'HOST_SUPERVISED_ALREADY';

/** A command cannot be run under supervision. */
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
