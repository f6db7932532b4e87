/**
 * Counters that the caller of a REPLACE is told: rules that stay go on counting from them, while the caller expects zero
 * and adds them itself. So they are taken off whatever goes on.
 */
import type { Counters } from '../../rules/index.ts';
import { type ChainCounts, type ChainState, counterKeys } from '../policy/index.ts';

export class ToldCounts {
  /** By the numbers of the counters, where they have counted anything. */
  readonly #byNumber = new Map<number, Counters>();
  readonly #chains: readonly ChainState[];

  /** @param chains of a table, with what they have counted */
  constructor(chains: readonly ChainState[], counts: readonly ChainCounts[]) {
    for (const [index, { counters, policyCounter }] of chains.entries()) {
      const { rules, policy } = counts[index]!;
      for (const [rule, number] of counters.entries()) this.#put(number, rules[rule]!);
      if (policyCounter !== undefined) this.#put(policyCounter, policy!);
    }
    // They change with the rules.
    this.#chains = chains.map((chain) => ({
      ...chain,
      lines: chain.lines.slice(),
      counters: chain.counters.slice(),
    }));
  }

  #put(number: number, counted: Counters): void {
    if (counted.packets !== 0n || counted.bytes !== 0n) this.#byNumber.set(number, counted);
  }

  /**
   * What is to be added to the counters of the table after the replacement.
   * @param edited counters of rules that stay keep their numbers; else they are found by what the rules say
   */
  takenOff(after: readonly ChainState[], edited: boolean): readonly ChainCounts[] {
    if (this.#byNumber.size === 0) return [];
    const former = edited ? undefined : this.#formerNumbers(after);
    const negated = (number: number): Counters => {
      const counted = this.#byNumber.get(former === undefined ? number : (former.get(number) ?? -1));
      return { packets: -(counted?.packets ?? 0n), bytes: -(counted?.bytes ?? 0n) };
    };
    return after.map(({ family, table, chain, counters, policyCounter }) => ({
      family,
      table,
      chain,
      rules: counters.map(negated),
      ...(policyCounter === undefined ? {} : { policy: negated(policyCounter) }),
    }));
  }

  /** Numbers that counters had before all was loaded anew, by those that they have now. */
  #formerNumbers(after: readonly ChainState[]): ReadonlyMap<number, number> {
    const numbers = new Map<number, number>();
    const known = counterKeys(this.#chains);
    for (const [key, number] of counterKeys(after)) {
      const former = known.get(key);
      if (former !== undefined) numbers.set(number, former);
    }
    return numbers;
  }
}
