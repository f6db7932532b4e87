/**
 * The language of u32 (iptables-extensions(8), extensions/libxt_u32.c):
 *
 *     tests    := test | tests "&&" test
 *     test     := location "=" values
 *     location := number | location ("&" | "<<" | ">>" | "@") number
 *     values   := range | values "," range
 *     range    := number | number ":" number
 */
import { OptionError } from '../extension.ts';
import { hex, splitNumber } from './number.ts';

export type U32Operator = '&' | '<<' | '>>' | '@';

export interface U32Test {
  /** The offset to begin with; the operators then work on the number that is found. */
  readonly start: number;
  readonly steps: readonly { readonly operator: U32Operator; readonly operand: number }[];
  /** Inclusive; one that runs backwards never matches. */
  readonly ranges: readonly { readonly min: number; readonly max: number }[];
}

/** XT_U32_MAXSIZE: of tests, of numbers in a location, of ranges. */
const MOST = 10;

class U32Reader {
  private readonly text: string;
  private position = 0;

  constructor(text: string) {
    this.text = text;
  }

  private fail(message: string): never {
    throw new OptionError(`${message} at character ${this.position + 1}`);
  }

  private skipBlanks(): void {
    while (/\s/.test(this.text[this.position] ?? '')) this.position++;
  }

  /** Takes the symbol if it is next. */
  private take(symbol: string): boolean {
    this.skipBlanks();
    if (!this.text.startsWith(symbol, this.position)) return false;
    this.position += symbol.length;
    return true;
  }

  private number(): number {
    const rest = this.text.slice(this.position);
    const number = splitNumber(rest);
    if (number === undefined || number.value > 0xffff_ffffn)
      this.fail('a number of at most 32 bits is expected');
    this.position += rest.length - number.rest.length;
    return Number(number.value);
  }

  private operator(): U32Operator | undefined {
    const operators: readonly U32Operator[] = ['&', '<<', '>>', '@'];
    return operators.find((symbol) => this.take(symbol));
  }

  private test(): U32Test {
    const start = this.number();
    const steps: { operator: U32Operator; operand: number }[] = [];
    while (!this.take('=')) {
      const operator = this.operator();
      if (operator === undefined) this.fail('"=", "&", "<<", ">>" or "@" is expected');
      steps.push({ operator, operand: this.number() });
      if (steps.length >= MOST) this.fail(`a location has at most ${MOST} numbers: one too many`);
    }
    const ranges: { min: number; max: number }[] = [];
    do {
      const min = this.number();
      ranges.push({ min, max: this.take(':') ? this.number() : min });
      if (ranges.length > MOST) this.fail(`a test has at most ${MOST} values: one too many`);
    } while (this.take(','));
    return { start, steps, ranges };
  }

  tests(): U32Test[] {
    const tests: U32Test[] = [];
    do {
      tests.push(this.test());
      if (tests.length > MOST) this.fail(`there are at most ${MOST} tests: one too many`);
    } while (this.take('&&'));
    this.skipBlanks();
    if (this.position < this.text.length) this.fail('"," or "&&" is expected');
    return tests;
  }
}

/** @throws {OptionError} with the place of what is wrong. */
export function parseU32Tests(text: string): U32Test[] {
  return new U32Reader(text).tests();
}

/** Without blanks, numbers in hexadecimal. */
export function formatU32Tests(tests: readonly U32Test[]): string {
  return tests
    .map(({ start, steps, ranges }) => {
      const location = steps.map(({ operator, operand }) => `${operator}${hex(operand)}`).join('');
      const values = ranges.map(({ min, max }) => (min === max ? hex(min) : `${hex(min)}:${hex(max)}`));
      return `${hex(start)}${location}=${values.join(',')}`;
    })
    .join('&&');
}
