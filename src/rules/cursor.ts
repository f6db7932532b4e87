/** The words of a command, taken one after the other. */
import type { Word } from './lexer.ts';

export class WordCursor {
  readonly #words: readonly Word[];
  #next = 0;

  constructor(words: readonly Word[]) {
    this.#words = words;
  }

  /** The next word, whatever it looks like; `undefined` at the end. */
  take(): Word | undefined {
    return this.#words[this.#next++];
  }

  peek(): Word | undefined {
    return this.#words[this.#next];
  }

  /** Whether the next word is not the last one. */
  get hasTwo(): boolean {
    return this.#next + 1 < this.#words.length;
  }

  /** Takes the next word unless it looks like an option or a negation (xs_has_arg, iptables/xshared.c). */
  takeArgument(): Word | undefined {
    const first = this.peek()?.text[0];
    return first === '-' || first === '!' ? undefined : this.take();
  }

  /** Passes over all words that {@link takeArgument} would take. */
  skipArguments(): void {
    while (this.takeArgument() !== undefined);
  }

  skipAll(): void {
    this.#next = this.#words.length;
  }
}
