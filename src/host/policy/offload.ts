/**
 * Hardware offload: each device is asked by a real load for it (bpf(2) PROG_LOAD with prog_ifindex, kernel/bpf/offload.c).
 * A device that would take programs still cannot run a policy: rules live in an arena, and what lies in a device's own
 * memory are arrays and hashes. So the answer is always a refusal, in words, before anything changes.
 */
import { Assembler, type ProgramType, R0 } from '../../isa/index.ts';
import { Errno, linkProgram, Program, VerifierError, withNetns } from '../../kernel/index.ts';
import { PolicyError } from './error.ts';
import { closeTargets, openTargets } from './target.ts';

/** Where it is asked for, as in an {@link ApplyRequest}. */
export interface OffloadRequest {
  readonly hooks: readonly string[];
  readonly namespaces?: readonly string[];
  readonly devices?: readonly string[];
}

const HINT = 'leave --offload out: at --hook xdp rules meet packets in the driver already, before the stack';

/**
 * Asks every named device to run programs itself. Nothing is changed, whatever it answers.
 * @throws {PolicyError} `HOST_OFFLOAD_REFUSED` with what the device says, `HOST_POLICY_USAGE` where no device is meant
 */
export function askForOffload({ hooks, namespaces = [], devices = [] }: OffloadRequest): never {
  const type: ProgramType | undefined = hooks.includes('xdp')
    ? 'BPF_PROG_TYPE_XDP'
    : hooks.some((hook) => hook.startsWith('tcx'))
      ? 'BPF_PROG_TYPE_SCHED_CLS'
      : undefined;
  if (type === undefined || devices.length === 0)
    throw new PolicyError(
      'HOST_POLICY_USAGE',
      '--offload asks a device, and none is named',
      'add --hook xdp --dev DEVICE',
    );
  const targets = openTargets(namespaces, devices);
  try {
    const answers = targets.flatMap((target) =>
      target.devices.map(({ name, index }) =>
        offloadAnswer(
          name,
          withNetns(target.netns, () => ask(type, index)),
        ),
      ),
    );
    throw new PolicyError('HOST_OFFLOAD_REFUSED', answers.join('; '), HINT);
  } finally {
    closeTargets(targets);
  }
}

/** Loads the shortest program for a device of the calling thread's namespace; `undefined` when it takes it. */
function ask(type: ProgramType, ifindex: number): VerifierError | undefined {
  const asm = new Assembler();
  asm.mov(R0, 0).exit();
  try {
    Program.load({
      type,
      name: 'slc_offload',
      instructions: linkProgram(asm.finish(), {}),
      ifindex,
    }).close();
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

/** A device's answer in words. `refusal` absent: it took the program. */
export function offloadAnswer(
  device: string,
  refusal: Pick<VerifierError, 'errno' | 'summary'> | undefined,
): string {
  if (refusal === undefined)
    return `device ${device} takes programs, but not the memory that rules live in: arrays and hashes are all that it holds`;
  switch (refusal.errno) {
    case Errno.EOPNOTSUPP:
      return `device ${device} cannot run programs itself: its driver knows nothing of BPF (EOPNOTSUPP)`;
    case Errno.EINVAL:
      return `device ${device} cannot run programs itself: its driver runs them on this machine's processors only (EINVAL)`;
    default:
      return `device ${device} does not take programs: ${refusal.summary}`;
  }
}
