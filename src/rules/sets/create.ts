/** `create NAME TYPE options`: what `ipset save` prints of a set. */
import type { Family } from '../../net/index.ts';
import { formatAddressBytes } from '../../net/index.ts';
import { byteLength } from '../text/utf8.ts';
import { addressWords, parseEntry, wordsToBytes } from './entry.ts';
import { SetError } from './error.ts';
import { MAX_TIMEOUT_SEC, parseNumber } from './extras.ts';
import { parsePortNumbers } from './port.ts';
import { hasFamily, SET_TYPES, type SetDefinition, setType, swap32 } from './type.ts';

/** IPSET_MAXNAMELEN - 1 */
const NAME_BYTES = 31;
const DEFAULT_HASHSIZE = 1024;
const DEFAULT_MAXELEM = 65536;
const DEFAULT_BUCKETSIZE = 12;
const DEFAULT_LIST_SIZE = 8;
/** Entries that a table can be made for. */
export const MAX_MAXELEM: number = 2 ** 24;
const BITMAP_ENTRIES = 65536;

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

/** @throws {SetError} */
export function parseCreate(words: readonly string[]): SetDefinition {
  const [name = '', typeName = '', ...options] = words;
  const type = setType(typeName);
  if (name === '' || byteLength(name) > NAME_BYTES)
    throw new SetError(`"${name}" is no name for a set`, `1 to ${NAME_BYTES} bytes`);
  if (type === undefined)
    throw new SetError(
      `unknown type "${typeName}"`,
      `types are ${SET_TYPES.map((one) => one.name).join(', ')}`,
    );
  const made: Writable<SetDefinition> = {
    name,
    type,
    family: 'ipv4',
    hashsize: DEFAULT_HASHSIZE,
    maxelem: type.method === 'hash' ? DEFAULT_MAXELEM : BITMAP_ENTRIES,
    bucketsize: DEFAULT_BUCKETSIZE,
    initval: undefined,
    netmask: undefined,
    bitmask: undefined,
    markmask: undefined,
    range: undefined,
    timeoutSec: undefined,
    counters: false,
    comment: false,
    skbinfo: false,
    forceadd: false,
    size: DEFAULT_LIST_SIZE,
    members: [],
  };
  let range: string | undefined;
  let bitmask: string | undefined;
  for (let at = 0; at < options.length; ) {
    const option = options[at++]!;
    const value = (): string => {
      const word = options[at++];
      if (word === undefined) throw new SetError(`${option} lacks its value`);
      return word;
    };
    switch (option) {
      case 'family': {
        const family = FAMILIES[value()];
        if (family === undefined) throw new SetError('family is inet or inet6');
        made.family = family;
        break;
      }
      case '-4':
        made.family = 'ipv4';
        break;
      case '-6':
        made.family = 'ipv6';
        break;
      case 'hashsize':
        made.hashsize = parseNumber(option, value(), 2 ** 31, 1);
        break;
      case 'maxelem':
        made.maxelem = parseNumber(option, value(), MAX_MAXELEM, 1);
        break;
      case 'bucketsize':
        made.bucketsize = parseNumber(option, value(), 14, 2);
        break;
      case 'initval':
        made.initval = parseNumber(option, value(), 0xffff_ffff);
        break;
      case 'netmask':
        made.netmask = parseNumber(option, value(), 128, 1);
        break;
      case 'bitmask':
        bitmask = value();
        break;
      case 'markmask':
        made.markmask = parseNumber(option, value(), 0xffff_ffff, 1);
        break;
      case 'range':
        range = value();
        break;
      case 'timeout':
        made.timeoutSec = parseNumber(option, value(), MAX_TIMEOUT_SEC);
        break;
      case 'size':
        made.size = parseNumber(option, value(), 65536, 1);
        break;
      case 'counters':
      case 'comment':
      case 'skbinfo':
      case 'forceadd':
        made[option] = true;
        break;
      default:
        throw new SetError(`unknown option "${option}" of create`);
    }
  }
  settleMask(made, bitmask);
  if (made.forceadd && type.method !== 'hash') throw new SetError(`${type.name} takes no forceadd`);
  if (made.markmask !== undefined && type.name !== 'hash:ip,mark')
    throw new SetError(`${type.name} takes no markmask`);
  if (type.method !== 'bitmap') {
    if (range !== undefined) throw new SetError(`${type.name} takes no range`);
    if (type.method === 'list') made.maxelem = made.size;
    return made;
  }
  if (range === undefined) throw new SetError(`${type.name} needs a range`, 'range FIRST-LAST');
  if (made.family === 'ipv6') throw new SetError(`${type.name} is for IPv4 only`);
  made.range = bitmapRange(made, range);
  const step = made.netmask === undefined ? 1 : 2 ** (32 - made.netmask);
  made.maxelem = Math.floor((made.range[1] - made.range[0]) / step) + 1;
  if (made.maxelem > BITMAP_ENTRIES)
    throw new SetError(`the range has ${made.maxelem} entries: a bitmap has at most ${BITMAP_ENTRIES}`);
  return made;
}

/** Types whose addresses may be masked, and how. */
const MASKED: Readonly<Record<string, readonly ('netmask' | 'bitmask')[]>> = {
  'hash:ip': ['netmask', 'bitmask'],
  'hash:ip,port': ['netmask', 'bitmask'],
  'bitmap:ip': ['netmask'],
};

/** Checks the mask of a set's addresses; one with all bits is none. */
function settleMask(made: Writable<SetDefinition>, bitmask: string | undefined): void {
  const { type, family, netmask } = made;
  const bits = family === 'ipv4' ? 32 : 128;
  if (netmask !== undefined && bitmask !== undefined)
    throw new SetError('netmask and bitmask say the same thing in two ways', 'give one of them');
  for (const option of ['netmask', 'bitmask'] as const) {
    if ((option === 'netmask' ? netmask : bitmask) === undefined) continue;
    if (type.name === 'hash:net,net')
      throw new SetError(
        `${option} of a hash:net,net: its networks are looked up under their own prefix lengths alone`,
        'give the entries the lengths that are wanted',
      );
    if (MASKED[type.name]?.includes(option) !== true) throw new SetError(`${type.name} takes no ${option}`);
  }
  if (netmask !== undefined && netmask > bits) throw new SetError(`netmask ${netmask} is too long`);
  if (netmask === bits) made.netmask = undefined;
  if (bitmask === undefined) return;
  const mask = addressWords(bitmask, family);
  if (mask.every((word) => word === 0)) throw new SetError('a bitmask of zeros leaves nothing of an address');
  if (mask.some((word) => word !== 0xffff_ffff)) made.bitmask = mask;
}

const FAMILIES: Readonly<Record<string, Family>> = {
  inet: 'ipv4',
  ipv4: 'ipv4',
  inet6: 'ipv6',
  ipv6: 'ipv6',
};

function bitmapRange(definition: SetDefinition, text: string): [number, number] {
  if (definition.type.name === 'bitmap:port') {
    const ports = parsePortNumbers(text);
    return [ports[0]!, ports[ports.length - 1]!];
  }
  // The bounds are those of the addresses, whatever the netmask.
  const plain: SetDefinition = { ...definition, netmask: undefined, type: setType('bitmap:ip')! };
  const bound = (part: string): number => swap32(parseEntry(plain, part)[0]![0]!);
  const slash = text.indexOf('/');
  if (slash >= 0) {
    const length = parseNumber('range', text.slice(slash + 1), 31, 1);
    const size = 2 ** (32 - length);
    const first = Math.floor(bound(text.slice(0, slash)) / size) * size;
    return [first, first + size - 1];
  }
  const dash = text.indexOf('-');
  if (dash < 0) throw new SetError(`range "${text}" has no end`, 'FIRST-LAST or NETWORK/LENGTH');
  const a = bound(text.slice(0, dash));
  const b = bound(text.slice(dash + 1));
  return a <= b ? [a, b] : [b, a];
}

/** The line that makes the set, as `ipset save` prints it. */
export function formatCreate(definition: SetDefinition): string {
  const { name, type, family, range, timeoutSec, netmask, bitmask, markmask } = definition;
  const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`;
  const mask: string[] = [];
  if (netmask !== undefined) mask.push('netmask', String(netmask));
  if (bitmask !== undefined) mask.push('bitmask', formatAddressBytes(wordsToBytes(bitmask)));
  const words = ['create', name, type.name];
  if (type.method === 'hash') {
    if (hasFamily(definition)) words.push('family', family === 'ipv4' ? 'inet' : 'inet6');
    if (markmask !== undefined) words.push('markmask', hex(markmask));
    words.push('hashsize', String(definition.hashsize), 'maxelem', String(definition.maxelem));
  }
  if (range !== undefined) {
    const bound = (value: number): string =>
      type.name === 'bitmap:port'
        ? String(value)
        : formatAddressBytes(Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value));
    words.push('range', `${bound(range[0])}-${bound(range[1])}`);
  }
  if (type.method === 'list') words.push('size', String(definition.size));
  // Where each type's own code in ipset has it.
  if (type.name !== 'hash:ip,port') words.push(...mask);
  if (timeoutSec !== undefined) words.push('timeout', String(timeoutSec));
  if (definition.counters) words.push('counters');
  if (definition.comment) words.push('comment');
  if (definition.forceadd) words.push('forceadd');
  if (definition.skbinfo) words.push('skbinfo');
  if (type.method === 'hash') {
    words.push('bucketsize', String(definition.bucketsize));
    if (definition.initval !== undefined) words.push('initval', hex(definition.initval));
  }
  if (type.name === 'hash:ip,port') words.push(...mask);
  return words.join(' ');
}
