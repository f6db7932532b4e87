/** Hook programs on the virtual machine: state and hook list in its memory, packets and arguments by number. */
import type { AssembledProgram } from '../../../isa/index.ts';
import { Machine, type Program, type Region, u32, u64 } from '../../../vm/index.ts';
import type { SkBuff } from '../../skb.ts';
import type { HookEntries } from '../entries.ts';
import { type HookActions, nfHookSlow } from '../slow.ts';
import type { HookFunction, NfHookState } from '../state.ts';
import type { HookProgramEngine, LoadedHookProgram } from './cache.ts';
import { RUNTIME_CALLS } from './generate.ts';
import { ENTRIES, privOffset, STATE } from './layout.ts';

/** What a passage through a hook stands for; r1 of the runtime calls is the packet's number. */
interface Passage {
  readonly skb: SkBuff;
  readonly state: NfHookState;
  readonly entries: HookEntries;
  readonly actions: HookActions;
  /** Where its list lies. */
  readonly list: number;
}

const PACKET = 1;
/** Programs and lists put into one machine before another takes its place: what was put there cannot be taken back. */
const MACHINE_OBJECTS_MAX = 4096;

/**
 * Machines whose kernel functions are hook functions. A machine runs one program at a time: a hook that sends a packet through
 * hooks again gets another one.
 */
export class MachineHookEngine implements HookProgramEngine {
  readonly #free: HookMachine[] = [];

  load(program: AssembledProgram, functions: ReadonlyMap<string, HookFunction>): LoadedHookProgram {
    const loaded = new WeakMap<HookMachine, Program>();
    return {
      run: (skb, state, entries, actions) => {
        const machine = this.#free.pop() ?? new HookMachine();
        try {
          let ready = loaded.get(machine);
          if (ready === undefined) {
            ready = machine.load(program, functions);
            loaded.set(machine, ready);
          }
          return machine.run(ready, { skb, state, entries, actions });
        } finally {
          if (machine.objects < MACHINE_OBJECTS_MAX) this.#free.push(machine);
        }
      },
      unload: () => {},
    };
  }
}

class HookMachine {
  /** Programs loaded and lists written so far. */
  objects = 0;
  readonly #machine: Machine = new Machine();
  readonly #state: number;
  readonly #lists = new WeakMap<HookEntries, number>();
  readonly #listRegion: Region;
  #passage: Passage | undefined;

  constructor() {
    const { memory } = this.#machine;
    this.#state = memory.allocate(STATE.bytes);
    memory.addRegion('hook state', this.#state, STATE.bytes, true);
    this.#listRegion = memory.addRegion('hook list', 0, 0, false);
    this.#define(RUNTIME_CALLS.free, ({ skb, state, actions }) => {
      actions.free(skb, state);
      return 0;
    });
    this.#define(RUNTIME_CALLS.queue, ({ skb, state, entries, actions }, machine) =>
      actions.queue(skb, state, entries, this.#hookIndex(), u32(machine, 3)),
    );
    this.#define(RUNTIME_CALLS.slow, ({ skb, state, entries, actions }) =>
      nfHookSlow(skb, state, entries, this.#hookIndex(), actions),
    );
  }

  load(program: AssembledProgram, functions: ReadonlyMap<string, HookFunction>): Program {
    for (const [name, hook] of functions)
      this.#define(name, ({ skb, state, entries, list }, machine) => {
        const priv = Number(machine.memory.readU64(this.#state + STATE.priv));
        const argument = priv === list ? undefined : entries[priv - 1]?.priv;
        return hook(argument, skb, state) >>> 0;
      });
    this.objects++;
    return this.#machine.load(program);
  }

  run(program: Program, passage: Omit<Passage, 'list'>): number {
    const { memory } = this.#machine;
    const list = this.#list(passage.entries);
    const { state, entries } = passage;
    memory.moveRegion(this.#listRegion, list, ENTRIES.first + entries.length * ENTRIES.stride);
    memory.u8[this.#state + STATE.hook] = state.hook;
    memory.u8[this.#state + STATE.pf] = state.pf;
    memory.writeU64(this.#state + STATE.priv, BigInt(list));
    memory.writeU64(this.#state + STATE.skb, BigInt(PACKET));
    this.#passage = { ...passage, list };
    try {
      return this.#machine.runAt(program, this.#state) | 0;
    } finally {
      this.#passage = undefined;
    }
  }

  #define(name: string, body: (passage: Passage, machine: Machine) => number): void {
    this.#machine.defineKfunc(name, {
      function: (machine) => {
        const passage = this.#passage;
        // Programs of the generator hand on what they were given; anything else is a defect.
        const first = u64(machine, 1);
        if (passage === undefined || (first !== BigInt(PACKET) && first !== BigInt(this.#state)))
          return machine.fail('VM_ARGUMENT', `${name} was called with what is no packet and no hook state`);
        return body(passage, machine);
      },
    });
  }

  #hookIndex(): number {
    return this.#machine.memory.view.getUint16(this.#state + STATE.hookIndex, true);
  }

  /** Writes a list once; its arguments are the places of their hooks + 1, so that 0 stays "none". */
  #list(entries: HookEntries): number {
    const known = this.#lists.get(entries);
    if (known !== undefined) return known;
    const { memory } = this.#machine;
    const bytes = ENTRIES.first + entries.length * ENTRIES.stride;
    const at = memory.allocate(bytes);
    memory.view.setUint16(at + ENTRIES.count, entries.length, true);
    for (const [index, { priv }] of entries.entries())
      memory.writeU64(at + privOffset(index), priv === undefined ? 0n : BigInt(index + 1));
    this.#lists.set(entries, at);
    this.objects++;
    return at;
  }
}
