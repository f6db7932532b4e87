/**
 * Programs shared by every hook list that calls the same functions, in whatever namespace.
 * Source: RFC v2 of October 2022, patch 9/9 ("hook_jit: add prog cache"). Unlike there, the key says which hooks take an argument,
 * because that is part of the program.
 */
import type { AssembledProgram } from '../../../isa/index.ts';
import type { SkBuff } from '../../skb.ts';
import type { HookEntries } from '../entries.ts';
import type { HookActions } from '../slow.ts';
import type { HookFunction, NfHookState } from '../state.ts';
import { generateHookProgram, UNCACHED_HOOKS } from './generate.ts';

/** A program that can run. The engine gives it the packet, the state, and the list that it reads its arguments from. */
export interface LoadedHookProgram {
  /** As nfHookSlow: 1 to go on, 0 consumed, negative dropped. */
  run(skb: SkBuff, state: NfHookState, entries: HookEntries, actions: HookActions): number;
  /** Nobody will run it again. */
  unload(): void;
}

/** Whatever executes eBPF. `functions[i]` is what the program calls by `calleeName(i)`. */
export interface HookProgramEngine {
  load(program: AssembledProgram, functions: ReadonlyMap<string, HookFunction>): LoadedHookProgram;
}

interface Cached {
  readonly key: string | undefined;
  readonly loaded: LoadedHookProgram;
  users: number;
}

/** Handed out for each use; give it back once. */
export type HookProgramReference = Cached;

/** Numbers that stand for functions in names and keys: one for each function there is, never used again. */
const functionNumbers = new WeakMap<HookFunction, number>();
let nextFunctionNumber = 1;

function functionNumber(hook: HookFunction): number {
  let number = functionNumbers.get(hook);
  if (number === undefined) {
    number = nextFunctionNumber++;
    functionNumbers.set(hook, number);
  }
  return number;
}

export class HookProgramCache {
  readonly #engine: HookProgramEngine;
  readonly #byKey = new Map<string, Cached>();
  #programs = 0;

  constructor(engine: HookProgramEngine) {
    this.#engine = engine;
  }

  /** Programs loaded now, shared or not. */
  get size(): number {
    return this.#programs;
  }

  /** The program of a list that is not empty: one that is there already, or a new one. */
  acquire(entries: HookEntries): HookProgramReference {
    const hooks = entries.map(({ hook, priv }) => ({
      callee: `hook${functionNumber(hook)}`,
      hasPriv: priv !== undefined,
    }));
    const key =
      entries.length < UNCACHED_HOOKS
        ? hooks.map(({ callee, hasPriv }) => (hasPriv ? `${callee}*` : callee)).join()
        : undefined;
    const found = key === undefined ? undefined : this.#byKey.get(key);
    if (found !== undefined) {
      found.users++;
      return found;
    }
    const functions = new Map(entries.map(({ hook }, index) => [hooks[index]!.callee, hook]));
    const loaded = this.#engine.load(generateHookProgram(hooks), functions);
    const cached: Cached = { key, loaded, users: 1 };
    this.#programs++;
    if (key !== undefined) this.#byKey.set(key, cached);
    return cached;
  }

  /** Gives a program back; the last user unloads it. */
  release(program: HookProgramReference): void {
    if (program.users === 0) throw new RangeError('a hook program was released more often than acquired');
    if (--program.users > 0) return;
    if (program.key !== undefined) this.#byKey.delete(program.key);
    this.#programs--;
    program.loaded.unload();
  }
}
