/** What can go wrong with policies; the codes are stable. */

/**
 * - `HOST_POLICY_NAME`      a name that no policy can have
 * - `HOST_POLICY_BUSY`      another command is changing policies
 * - `HOST_POLICY_NONE`      there is no such policy, or none in this namespace
 * - `HOST_POLICY_VERSION`   the policy was made by a build whose arena this one does not understand
 * - `HOST_POLICY_BROKEN`    pins are missing or of another kind
 * - `HOST_POLICY_FULL`      no room for another generation, program or namespace
 * - `HOST_POLICY_TARGET`    hooks, devices and cgroups do not fit each other
 * - `HOST_POLICY_CONFIRM`   nothing waits for confirmation, or it is too late
 * - `HOST_SET_NONE`         no live policy has a set of this name
 * - `HOST_SET_EXISTS`       a set of this name is there already
 * - `HOST_SET_IN_USE`       rules name the set that is to go
 * - `HOST_SET_FULL`         a set has all the entries that it may have
 * - `HOST_SET_AMBIGUOUS`    several policies or namespaces have a set of this name
 * - `HOST_SET_ENTRY`        an entry is there already, or is not there
 */
export type PolicyErrorCode =
  | 'HOST_POLICY_NAME'
  | 'HOST_POLICY_BUSY'
  | 'HOST_POLICY_NONE'
  | 'HOST_POLICY_VERSION'
  | 'HOST_POLICY_BROKEN'
  | 'HOST_POLICY_FULL'
  | 'HOST_POLICY_TARGET'
  | 'HOST_POLICY_CONFIRM'
  | 'HOST_SET_NONE'
  | 'HOST_SET_EXISTS'
  | 'HOST_SET_IN_USE'
  | 'HOST_SET_FULL'
  | 'HOST_SET_AMBIGUOUS'
  | 'HOST_SET_ENTRY';

export class PolicyError extends Error {
  readonly code: PolicyErrorCode;
  readonly hint: string;
  constructor(code: PolicyErrorCode, message: string, hint: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'PolicyError';
    this.code = code;
    this.hint = hint;
  }
}
