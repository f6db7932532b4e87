/** A compiled policy in the user-space machine, with verdicts as tests compare them. */
import type { CompiledPolicy, Surroundings } from '../../src/compile/index.ts';
import { type MachinePacket, PolicyMachine } from '../../src/host/replay/machine.ts';

export { MACHINE_HZ } from '../../src/host/replay/machine.ts';

export class MachinePolicy {
  readonly #machine: PolicyMachine;

  constructor(
    policy: CompiledPolicy,
    options: {
      readonly clock?: { ms: number };
      readonly random?: () => number;
      readonly surroundings?: Partial<Surroundings>;
    } = {},
  ) {
    const { clock, ...rest } = options;
    this.#machine = new PolicyMachine(policy, {
      ...rest,
      clock: { monotonicNs: () => BigInt(clock?.ms ?? 0) * 1_000_000n },
    });
  }

  /** Runs the dispatcher of a netfilter place; `undefined` when the policy has nothing there. */
  run(place: number, input: MachinePacket): 'ACCEPT' | 'DROP' | 'REJECT' | undefined {
    const run = this.#machine.run(place, input);
    if (run === undefined) return undefined;
    if (!run.accepted) return 'DROP';
    return (run.handed & 0xffn) !== 0n ? 'REJECT' : 'ACCEPT';
  }

  counter(index: number): { readonly packets: bigint; readonly bytes: bigint } {
    return this.#machine.counter(index);
  }
}
