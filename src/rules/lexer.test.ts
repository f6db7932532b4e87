import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitWords } from './lexer.ts';

/** The state machine of iptables-restore, a character at a time. */
function oneByOne(line: string): string[] | undefined {
  const words: string[] = [];
  let word = '';
  let quoted = false;
  let escaped = false;
  for (const character of line) {
    if (quoted && escaped) {
      word += character;
      escaped = false;
    } else if (quoted && character === '\\') escaped = true;
    else if (character === '"') {
      if (quoted) {
        words.push(word);
        word = '';
      }
      quoted = !quoted;
    } else if (!quoted && ' \t\n'.includes(character)) {
      if (word !== '') words.push(word);
      word = '';
    } else word += character;
  }
  if (quoted) return undefined;
  if (word !== '') words.push(word);
  return words;
}

describe('words of a line', () => {
  it('are those of the character by character rules', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...' \t"\\ab-!é'), maxLength: 40 }), (line) => {
        const { words, error } = splitWords(line);
        const expected = oneByOne(line);
        if (expected === undefined) expect(error?.kind).toBe('unterminated-quote');
        else expect(words.map(({ text }) => text)).toEqual(expected);
      }),
      { numRuns: 5000 },
    );
  });

  it('know where they stand', () => {
    const line = '-m comment --comment  "a \\"b\\" c" x"y z"w';
    const { words } = splitWords(line);
    expect(words.map(({ text }) => text)).toEqual(['-m', 'comment', '--comment', 'a "b" c', 'xy z', 'w']);
    expect(words.map(({ column, length }) => line.slice(column - 1, column - 1 + length))).toEqual([
      '-m',
      'comment',
      '--comment',
      '"a \\"b\\" c"',
      'x"y z"',
      'w',
    ]);
  });

  it.each([
    ['-A "x', 'unterminated-quote', 4],
    [`-A ${'x'.repeat(1024)}`, 'word-too-long', 4],
    [`${'x '.repeat(252)}`, 'too-many-words', 503],
  ])('end at a fault', (line, kind, column) => {
    expect(splitWords(line).error).toMatchObject({ kind, column });
  });
});
