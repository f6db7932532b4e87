/**
 * Words of a line, split as iptables-restore does (add_param_to_argv, iptables/xshared.c of 1.8.9): blanks and tabs
 * separate, double quotes group, a backslash escapes only inside quotes, and a closing quote always ends the word.
 */

/** One word. `column` counts from 1 and, with `length`, covers the word as written, quotes included. */
export interface Word {
  readonly text: string;
  readonly column: number;
  readonly length: number;
}

/** A fault of the line as a whole. */
export interface LexicalError {
  readonly kind: 'unterminated-quote' | 'word-too-long' | 'too-many-words';
  readonly column: number;
  readonly length: number;
}

export interface WordList {
  readonly words: readonly Word[];
  readonly error?: LexicalError;
}

/** sizeof(struct xt_param_buf.buffer). */
const MAXIMUM_WORD_LENGTH = 1024;
/** MAX_ARGC less the words that iptables-restore puts before the line's own. */
const MAXIMUM_WORDS = 255 - 4;

const TAB = 9;
const LINE_FEED = 10;
const SPACE = 32;
const QUOTE = 34;
const BACKSLASH = 92;

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB || code === LINE_FEED;
}

/** Splits a line, without its line feed, from the character at `start`. */
export function splitWords(line: string, start = 0): WordList {
  const words: Word[] = [];
  let position = start;
  for (;;) {
    while (position < line.length && isBlank(line.charCodeAt(position))) position++;
    if (position >= line.length) break;
    const first = position;
    while (position < line.length) {
      const code = line.charCodeAt(position);
      if (isBlank(code) || code === QUOTE) break;
      position++;
    }
    let text = line.slice(first, position);
    if (line.charCodeAt(position) === QUOTE) {
      const closed = readQuoted(line, position);
      if (closed === undefined)
        return {
          words,
          error: { kind: 'unterminated-quote', column: position + 1, length: line.length - position },
        };
      text += closed.text;
      position = closed.end;
    }
    const word = { text, column: first + 1, length: position - first };
    if (text.length >= MAXIMUM_WORD_LENGTH)
      return { words, error: { kind: 'word-too-long', column: word.column, length: word.length } };
    if (words.length >= MAXIMUM_WORDS)
      return { words, error: { kind: 'too-many-words', column: word.column, length: word.length } };
    words.push(word);
  }
  return { words };
}

/** The text from the quote at `open` to the closing one, and the position after it. */
function readQuoted(line: string, open: number): { text: string; end: number } | undefined {
  let text = '';
  let from = open + 1;
  for (let position = from; position < line.length; position++) {
    const code = line.charCodeAt(position);
    if (code === QUOTE) return { text: text + line.slice(from, position), end: position + 1 };
    if (code === BACKSLASH) {
      text += line.slice(from, position);
      from = position + 1;
      position++;
    }
  }
  return undefined;
}
