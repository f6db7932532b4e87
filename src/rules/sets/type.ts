/**
 * Types of IP sets: what an entry is made of, and how its parts lie in the words of a key (net/netfilter/ipset, man ipset(8)).
 */
import type { Family } from '../../net/index.ts';

/** One dimension of an entry. `tcp-port` is the port of TCP and UDP alike, without the protocol (bitmap:port). */
export type SetDimension = 'ip' | 'net' | 'port' | 'tcp-port' | 'mark' | 'mac' | 'iface' | 'set';

export interface SetType {
  readonly name: string;
  readonly dimensions: readonly SetDimension[];
  readonly method: 'hash' | 'bitmap' | 'list';
  /**
   * The address alone tells entries apart, and the entry holds a MAC address, or waits for the first packet with that address
   * to say one.
   */
  readonly holdsMac: boolean;
}

function type(name: string, dimensions: readonly SetDimension[], holdsMac = false): SetType {
  const method = name.startsWith('hash') ? 'hash' : name.startsWith('bitmap') ? 'bitmap' : 'list';
  return { name, dimensions, method, holdsMac };
}

export const SET_TYPES: readonly SetType[] = [
  type('hash:ip', ['ip']),
  type('hash:ip,mark', ['ip', 'mark']),
  type('hash:ip,port', ['ip', 'port']),
  type('hash:ip,port,ip', ['ip', 'port', 'ip']),
  type('hash:ip,port,net', ['ip', 'port', 'net']),
  type('hash:ip,mac', ['ip', 'mac']),
  type('hash:mac', ['mac']),
  type('hash:net', ['net']),
  type('hash:net,net', ['net', 'net']),
  type('hash:net,port', ['net', 'port']),
  type('hash:net,port,net', ['net', 'port', 'net']),
  type('hash:net,iface', ['net', 'iface']),
  type('bitmap:ip', ['ip']),
  type('bitmap:port', ['tcp-port']),
  type('bitmap:ip,mac', ['ip', 'mac'], true),
  type('list:set', ['set']),
];

/** Old spellings that `ipset restore` takes (man ipset(8), "GENERIC RESTRICTIONS"). */
const ALIASES: Readonly<Record<string, string>> = {
  iphash: 'hash:ip',
  nethash: 'hash:net',
  ipporthash: 'hash:ip,port',
  netporthash: 'hash:net,port',
  ipportiphash: 'hash:ip,port,ip',
  ipportnethash: 'hash:ip,port,net',
  ipmap: 'bitmap:ip',
  portmap: 'bitmap:port',
  macipmap: 'bitmap:ip,mac',
  setlist: 'list:set',
};

export function setType(name: string): SetType | undefined {
  const known = ALIASES[name] ?? name;
  return SET_TYPES.find((one) => one.name === known);
}

/** Prefix lengths of an entry's networks are one word of its key: the first in the low byte, the second above it. */
export interface KeyLayout {
  /** 32-bit words of a key. */
  readonly words: number;
  /** The first so many tell entries apart; those behind them are a MAC address that the entry holds, zeros while it has none. */
  readonly identity: number;
  /** First word of each dimension, in the order of the type. */
  readonly at: readonly number[];
  /** Word of the prefix lengths; -1 where no dimension is a network. */
  readonly lengthsAt: number;
  readonly networks: number;
}

/** Networks first, then their lengths, then the rest: programs mask the first words of any key. */
export function keyLayout(type: SetType, family: Family): KeyLayout {
  const known = LAYOUTS[family].get(type);
  if (known !== undefined) return known;
  const layout = layOut(type, family);
  LAYOUTS[family].set(type, layout);
  return layout;
}

/** Files of sets ask once for each of a million entries. */
const LAYOUTS: Readonly<Record<Family, Map<SetType, KeyLayout>>> = { ipv4: new Map(), ipv6: new Map() };

function layOut({ dimensions, holdsMac }: SetType, family: Family): KeyLayout {
  const address = family === 'ipv4' ? 1 : 4;
  const size: Readonly<Record<SetDimension, number>> = {
    ip: address,
    net: address,
    port: 1,
    'tcp-port': 1,
    mark: 1,
    mac: 2,
    iface: 4,
    set: 0,
  };
  const at = dimensions.map(() => 0);
  let words = 0;
  const place = (wanted: (dimension: SetDimension) => boolean): void => {
    for (const [index, dimension] of dimensions.entries()) {
      if (!wanted(dimension)) continue;
      at[index] = words;
      words += size[dimension];
    }
  };
  place((dimension) => dimension === 'net');
  const networks = dimensions.filter((dimension) => dimension === 'net').length;
  const lengthsAt = networks > 0 ? words++ : -1;
  place((dimension) => dimension !== 'net');
  const identity = holdsMac ? at[dimensions.indexOf('mac')]! : words;
  return { words, identity, at, lengthsAt, networks };
}

/** True for an entry that waits for a packet's MAC address. */
export function lacksMac({ holdsMac }: SetType, { identity }: KeyLayout, key: readonly number[]): boolean {
  return holdsMac && key[identity] === 0 && key[identity + 1] === 0;
}

/** Most words that a key can have. */
export const MAX_KEY_WORDS = 10;

/** A set as `create` makes it. */
export interface SetDefinition {
  readonly name: string;
  readonly type: SetType;
  /** IPv4 for types that have no family. */
  readonly family: Family;
  readonly hashsize: number;
  readonly maxelem: number;
  readonly bucketsize: number;
  readonly initval: number | undefined;
  /** Bits of the addresses that count: so many of them, or those of a mask, as words of a key. One of the two at most. */
  readonly netmask: number | undefined;
  readonly bitmask: readonly number[] | undefined;
  readonly markmask: number | undefined;
  /** Of bitmaps: first and last address or port, as numbers. */
  readonly range: readonly [first: number, last: number] | undefined;
  /** Seconds that entries stay by default, 0: for good; `undefined`: entries have no timeouts. */
  readonly timeoutSec: number | undefined;
  readonly counters: boolean;
  readonly comment: boolean;
  readonly skbinfo: boolean;
  /** In a full set another entry makes room for a new one. */
  readonly forceadd: boolean;
  /** Of list:set: how many members it may have, and its members in their order. */
  readonly size: number;
  readonly members: readonly ListMember[];
}

/** A set in a list of sets. */
export interface ListMember {
  readonly name: string;
  /** What `ipset save` prints behind it, with a leading space each. */
  readonly options: string;
}

/** True where an address of all zeros, once masked, is no entry. */
export function refusesZero({ name }: SetType): boolean {
  return name === 'hash:ip' || name === 'hash:ip,port';
}

/** True where the kernel looks the set up for packets of one family only. */
export function hasFamily({ type }: SetDefinition): boolean {
  return type.dimensions.some((dimension) => dimension === 'ip' || dimension === 'net');
}

/**
 * Masks of the words of a packet's key: netmask, markmask, the port alone where the protocol does not count, and nothing
 * of the prefix lengths, which come with the look-up.
 */
export function keyMasks(definition: SetDefinition): readonly number[] {
  const known = MASKS.get(definition);
  if (known !== undefined) return known;
  const masks = makeMasks(definition);
  MASKS.set(definition, masks);
  return masks;
}

const MASKS = new WeakMap<SetDefinition, readonly number[]>();

function makeMasks({ type, family, netmask, bitmask, markmask }: SetDefinition): readonly number[] {
  const layout = keyLayout(type, family);
  const masks = new Array<number>(layout.words).fill(0xffff_ffff);
  if (layout.lengthsAt >= 0) masks[layout.lengthsAt] = 0;
  for (const [index, dimension] of type.dimensions.entries()) {
    const at = layout.at[index]!;
    const mask = netmask === undefined ? bitmask : maskWords(family, netmask);
    if (dimension === 'ip' && mask !== undefined) {
      for (const [word, bits] of mask.entries()) masks[at + word] = bits;
    }
    if (dimension === 'mark' && markmask !== undefined) masks[at] = markmask;
    if (dimension === 'tcp-port') masks[at] = 0xffff;
  }
  return masks;
}

/** A prefix length as words that a little-endian load of the mask's bytes gives. */
export function maskWords(family: Family, length: number): number[] {
  return Array.from({ length: family === 'ipv4' ? 1 : 4 }, (_, word) => {
    const bits = Math.min(32, Math.max(0, length - word * 32));
    return swap32(bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0);
  });
}

/** The word with its bytes in the other order. */
export function swap32(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/** What an entry has beside its key. */
export interface SetExtras {
  readonly nomatch?: boolean;
  /** Seconds from now on; 0: for good. */
  readonly timeoutSec?: number;
  readonly packets?: bigint;
  readonly bytes?: bigint;
  readonly comment?: string;
  readonly skbmark?: { readonly value: number; readonly mask: number };
  readonly skbprio?: number;
  readonly skbqueue?: number;
}

export interface SetElement extends SetExtras {
  readonly key: readonly number[];
}
