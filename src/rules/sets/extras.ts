/** What stands behind an entry: timeout, counters, comment, skbinfo, nomatch. */
import { byteLength } from '../text/utf8.ts';
import { SetError } from './error.ts';
import type { SetDefinition, SetExtras } from './type.ts';

/** IPSET_MAX_TIMEOUT */
export const MAX_TIMEOUT_SEC: number = Math.floor(0xffff_ffff / 1000 / 2);
/** IPSET_MAX_COMMENT_SIZE */
const COMMENT_BYTES = 255;

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

/** Reads the options that follow an entry. @throws {SetError} */
export function parseExtras(definition: SetDefinition, words: readonly string[], from: number): SetExtras {
  if (from >= words.length) return NONE;
  const extras: Writable<SetExtras> = {};
  for (let at = from; at < words.length; ) {
    const name = words[at++]!;
    const value = (): string => {
      const word = words[at++];
      if (word === undefined) throw new SetError(`${name} lacks its value`);
      return word;
    };
    const needs = (present: boolean, option: string): void => {
      if (!present)
        throw new SetError(
          `${name}: set ${definition.name} was created without ${option}`,
          `create it with ${option}`,
        );
    };
    switch (name) {
      case 'timeout':
        needs(definition.timeoutSec !== undefined, 'timeout');
        extras.timeoutSec = parseNumber(name, value(), MAX_TIMEOUT_SEC);
        break;
      case 'packets':
      case 'bytes':
        needs(definition.counters, 'counters');
        extras[name] = parseCounter(name, value());
        break;
      case 'comment':
        needs(definition.comment, 'comment');
        extras.comment = checkComment(value());
        break;
      case 'skbmark':
        needs(definition.skbinfo, 'skbinfo');
        extras.skbmark = parseSkbmark(value());
        break;
      case 'skbprio':
        needs(definition.skbinfo, 'skbinfo');
        extras.skbprio = parseSkbprio(value());
        break;
      case 'skbqueue':
        needs(definition.skbinfo, 'skbinfo');
        extras.skbqueue = parseNumber(name, value(), 0xffff);
        break;
      case 'nomatch':
        if (!definition.type.dimensions.includes('net'))
          throw new SetError(`nomatch is for sets of networks, not ${definition.type.name}`);
        extras.nomatch = true;
        break;
      case 'wildcard':
        throw new SetError('entries with a wildcard for the device cannot be looked up', 'name each device');
      default:
        throw new SetError(
          `unknown option "${name}"`,
          'timeout, packets, bytes, comment, skbmark, skbprio, skbqueue, nomatch',
        );
    }
  }
  return extras;
}

const NONE: SetExtras = {};

export function parseNumber(name: string, text: string, most: number, least = 0): number {
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new SetError(`${name} is "${text}": it must be ${least} to ${most}`);
  return value;
}

function parseCounter(name: string, text: string): bigint {
  const value = /^[0-9]{1,20}$/.test(text) ? BigInt(text) : 2n ** 64n;
  if (value >= 2n ** 64n) throw new SetError(`${name} is "${text}": it must be a number below 2^64`);
  return value;
}

function checkComment(text: string): string {
  if (text.includes('"')) throw new SetError('a comment cannot have a double quote');
  if (byteLength(text) > COMMENT_BYTES) throw new SetError(`a comment has at most ${COMMENT_BYTES} bytes`);
  return text;
}

function parseSkbmark(text: string): { value: number; mask: number } {
  const parts = /^(0x[0-9a-f]{1,8})(?:\/(0x[0-9a-f]{1,8}))?$/i.exec(text);
  if (parts === null) throw new SetError(`skbmark is "${text}": it must be 0xMARK or 0xMARK/0xMASK`);
  return { value: Number(parts[1]), mask: Number(parts[2] ?? '0xffffffff') };
}

function parseSkbprio(text: string): number {
  const parts = /^([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(text);
  if (parts === null) throw new SetError(`skbprio is "${text}": it must be MAJOR:MINOR in hexadecimal`);
  return ((Number.parseInt(parts[1]!, 16) << 16) | Number.parseInt(parts[2]!, 16)) >>> 0;
}

/** The options as `ipset save` prints them, with a leading space each. */
export function formatExtras(definition: SetDefinition, extras: SetExtras): string {
  let text = '';
  if (definition.timeoutSec !== undefined) text += ` timeout ${extras.timeoutSec ?? 0}`;
  if (extras.nomatch === true) text += ' nomatch';
  if (definition.counters) text += ` packets ${extras.packets ?? 0n} bytes ${extras.bytes ?? 0n}`;
  if (extras.comment !== undefined) text += ` comment "${extras.comment}"`;
  if (definition.skbinfo) {
    const { skbmark, skbprio, skbqueue } = extras;
    if (skbmark !== undefined && (skbmark.value !== 0 || skbmark.mask !== 0)) {
      const mask = skbmark.mask === 0xffff_ffff ? '' : `/0x${skbmark.mask.toString(16)}`;
      text += ` skbmark 0x${skbmark.value.toString(16)}${mask}`;
    }
    if (skbprio !== undefined && skbprio !== 0)
      text += ` skbprio ${(skbprio >>> 16).toString(16)}:${(skbprio & 0xffff).toString(16)}`;
    if (skbqueue !== undefined && skbqueue !== 0) text += ` skbqueue ${skbqueue}`;
  }
  return text;
}
