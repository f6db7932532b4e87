/**
 * Runs the hooks of a namespace by generated programs. Where there is none (the engine refused it, or the namespace is
 * going), the interpreter runs. Source: RFC v2 of October 2022, patches 6/9 and 7/9.
 */
import type { HookEntries } from '../entries.ts';
import type { Netfilter } from '../netfilter.ts';
import { nfHookSlow } from '../slow.ts';
import type { HookNamespace } from '../state.ts';
import type { HookProgramCache, HookProgramReference } from './cache.ts';

/** Programs of one namespace, kept in step with its hook lists. */
export class GeneratedHooks {
  readonly #programs = new Map<HookEntries, HookProgramReference>();
  readonly #cache: HookProgramCache;

  /**
   * Takes over running hooks. Lists that exist already are compiled when they next change.
   *
   * @param onRefused told when the engine would not load a program; the list is interpreted then
   */
  constructor(
    net: HookNamespace,
    netfilter: Netfilter,
    cache: HookProgramCache,
    onRefused: (error: unknown) => void,
  ) {
    this.#cache = cache;
    netfilter.registry.listen({
      listChanged: (_key, before, after) => {
        // While the namespace goes, hook after hook is taken away: compiling each shorter list would be in vain.
        if (after.length > 0 && !net.dying) {
          try {
            this.#programs.set(after, cache.acquire(after));
          } catch (error) {
            onRefused(error);
          }
        }
        this.#drop(before);
      },
      hookRemoved: () => {},
    });
    netfilter.setRunner((skb, state, entries) => {
      const program = this.#programs.get(entries);
      return program === undefined
        ? nfHookSlow(skb, state, entries, 0, netfilter.actions)
        : program.loaded.run(skb, state, entries, netfilter.actions);
    });
  }

  /** How many lists have a program. */
  get size(): number {
    return this.#programs.size;
  }

  #drop(entries: HookEntries): void {
    const program = this.#programs.get(entries);
    if (program === undefined) return;
    this.#programs.delete(entries);
    this.#cache.release(program);
  }
}
