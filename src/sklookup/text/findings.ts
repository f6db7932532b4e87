/** Findings about a source text, with the line they are on. */
import type { BindingFinding, BindingFindingCode } from '../error.ts';

export class Findings {
  readonly list: BindingFinding[] = [];
  readonly #file: string;
  readonly #lines: readonly string[];

  constructor(file: string, lines: readonly string[]) {
    this.#file = file;
    this.#lines = lines;
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
    this.list.push({ code, severity: 'error', message, span, sourceLine: this.#lines[line - 1] ?? '', hint });
  }

  line(number: number): string {
    return this.#lines[number - 1] ?? '';
  }
}
