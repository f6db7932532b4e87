/** What operations on sets keep in the frame. */
import type { Family } from '../../net/index.ts';
import type { Emission } from '../emit/emission.ts';

const KEY_BYTES = 40;

/** Offsets from r10 of what a search keeps between two instructions. Pointers are the arena's, not cast. */
export interface SetFrame {
  readonly key: number;
  /** The packet's MAC address where entries hold one: behind the key, which is of IPv4 and short then. */
  readonly mac: number;
  /** The state word looked for, its distance included. */
  readonly wanted: number;
  /** The bucket under the search. */
  readonly bucket: number;
  /** Of the entry found: its state, where that lies, and the entry. */
  readonly state: number;
  readonly place: number;
  readonly entry: number;
  /** Nodes of the prefix lengths under the search. */
  readonly lengths: readonly [number, number];
  /** The key's home bucket. */
  readonly home: number;
  /** Place of the state of an entry that the search passes over; slots still to be looked at. */
  readonly own: number;
  readonly slot: number;
}

export function setFrame({ frame }: Emission): SetFrame {
  const key = frame.block('set.key', KEY_BYTES);
  return {
    key,
    mac: key + KEY_BYTES - 8,
    wanted: frame.word('set.wanted'),
    bucket: frame.word('set.bucket'),
    state: frame.word('set.state'),
    place: frame.word('set.place'),
    entry: frame.word('set.entry'),
    lengths: [frame.word('set.length0'), frame.word('set.length1')],
    home: frame.word('set.home'),
    own: frame.word('set.own'),
    slot: frame.word('set.slot'),
  };
}

/** Words of an address, and of a network in a key. */
export function addressWords(family: Family): number {
  return family === 'ipv4' ? 1 : 4;
}
