/** Findings about a source text, with the line they are on. */
import type { BindingFinding, BindingFindingCode } from '../error.ts';

export class Findings {
  readonly list: BindingFinding[] = [];
  readonly #file: string;
  readonly #text: string;
  /** Cut when the first finding wants one. */
  #lines: readonly string[] | undefined;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  /** @param line and `column` from 1 */
  add(
    code: BindingFindingCode,
    line: number,
    column: number,
    length: number,
    message: string,
    hint: string,
  ): void {
    const span = { file: this.#file, line, column, length };
    this.list.push({ code, severity: 'error', message, span, sourceLine: this.line(line), hint });
  }

  /** @param number from 1 */
  line(number: number): string {
    this.#lines ??= this.#text.split(/\r?\n/);
    return this.#lines[number - 1] ?? '';
  }
}
