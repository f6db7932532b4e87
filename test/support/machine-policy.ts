/** A compiled policy in the user-space machine, with verdicts as tests compare them. */
import type { CompiledPolicy, GenerationParts } from '../../src/compile/index.ts';
import { handedMark } from '../../src/host/replay/compiled.ts';
import { type MachinePacket, PolicyMachine } from '../../src/host/replay/machine.ts';
import type { SetContents } from '../../src/rules/index.ts';

export { MACHINE_HZ } from '../../src/host/replay/machine.ts';

export interface MachineJudgment {
  readonly verdict: 'ACCEPT' | 'DROP' | 'REJECT';
  /** As the action chain leaves it. */
  readonly mark: number;
  /** enum ipt_reject_with or ip6t_reject_with, with REJECT. */
  readonly reject?: number;
}

export class MachinePolicy {
  readonly machine: PolicyMachine;

  constructor(
    policy: CompiledPolicy,
    options: {
      readonly clock?: { ms: number };
      readonly random?: () => number;
      readonly surroundings?: Partial<GenerationParts>;
      readonly sets?: readonly SetContents[];
      readonly secrets?: () => bigint;
    } = {},
  ) {
    const { clock, ...rest } = options;
    this.machine = new PolicyMachine(policy, {
      ...rest,
      clock: { monotonicNs: () => BigInt(clock?.ms ?? 0) * 1_000_000n },
    });
  }

  /** The verdict of the dispatcher of a netfilter place; `undefined` when the policy has nothing there. */
  run(place: number, input: MachinePacket): MachineJudgment['verdict'] | undefined {
    return this.judge(place, input)?.verdict;
  }

  /** As {@link run}, with what is handed on to the action chain carried out. */
  judge(place: number, input: MachinePacket): MachineJudgment | undefined {
    const run = this.machine.run(place, input);
    if (run === undefined) return undefined;
    const mark = handedMark(this.machine.policy, run.handed, input.mark ?? 0);
    if (!run.accepted) return { verdict: 'DROP', mark };
    const reject = Number(run.handed & 0xffn);
    return reject === 0 ? { verdict: 'ACCEPT', mark } : { verdict: 'REJECT', mark, reject: reject - 1 };
  }

  counter(index: number): { readonly packets: bigint; readonly bytes: bigint } {
    return this.machine.counter(index);
  }
}
