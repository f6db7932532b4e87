/** DiffServ codepoints and the names of their classes: RFC 2474, 2597 and 3246. */
import { OptionError } from '../extension.ts';
import { didYouMean } from '../suggestion.ts';
import { boundedNumber } from './bounded.ts';

const CLASSES: ReadonlyMap<string, number> = new Map([
  ...Array.from({ length: 8 }, (_, number): [string, number] => [`CS${number}`, number << 3]),
  ['BE', 0],
  ...[1, 2, 3, 4].flatMap((group) =>
    [1, 2, 3].map((drop): [string, number] => [`AF${group}${drop}`, (group << 3) | (drop << 1)]),
  ),
  ['EF', 0x2e],
]);

/** A number from 0 to 63. @throws {OptionError} */
export function parseDscp(text: string): number {
  return boundedNumber(text, 0, 63);
}

/** The codepoint of a class, in upper or lower case. @throws {OptionError} */
export function parseDscpClass(text: string): number {
  const codepoint = CLASSES.get(text.toUpperCase());
  if (codepoint === undefined) {
    const hint = didYouMean(text, CLASSES.keys());
    throw new OptionError(`unknown DSCP class "${text}"`, {
      hint: hint ?? 'classes are BE, EF, AF11 to AF43 and CS0 to CS7',
    });
  }
  return codepoint;
}

/** "0x" and two digits. */
export function formatDscp(codepoint: number): string {
  return `0x${codepoint.toString(16).padStart(2, '0')}`;
}
