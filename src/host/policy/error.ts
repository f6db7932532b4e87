/** What can go wrong with policies; the codes are stable. */

/** The codes, with what each means. */
export const POLICY_CODES = {
  HOST_OFFLOAD_REFUSED: 'A device does not run rules itself (--offload)',
  HOST_POLICY_BROKEN: 'Pins are missing or of another kind',
  HOST_POLICY_BUSY: 'Another command is changing policies',
  HOST_POLICY_CONFIRM: 'Nothing waits for confirmation, or it is too late',
  HOST_POLICY_FULL: 'There is no room for another generation, program or namespace',
  HOST_POLICY_NAME: 'A name that no policy can have',
  HOST_POLICY_NONE: 'There is no such policy, or none in this namespace',
  HOST_POLICY_TARGET: 'A device, cgroup or program that is named is not there, or live links stand otherwise',
  HOST_POLICY_USAGE: 'Hooks, devices, cgroups and places that are asked for do not fit each other',
  HOST_POLICY_VERSION: 'The policy was made by a build whose arena this one does not understand',
  HOST_SET_AMBIGUOUS: 'Several policies or namespaces have a set of this name',
  HOST_SET_ENTRY: 'An entry is there already, or is not there',
  HOST_SET_EXISTS: 'A set of this name is there already',
  HOST_SET_FULL: 'A set has all the entries that it may have',
  HOST_SET_IN_USE: 'Rules name the set that is to go',
  HOST_SET_NONE: 'No live policy has a set of this name',
} as const;
export type PolicyErrorCode = keyof typeof POLICY_CODES;

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
