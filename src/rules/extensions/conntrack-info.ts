/** struct xt_conntrack_mtinfo1 to 3 (uapi/linux/netfilter/xt_conntrack.h): places and flags. */
import { unwritten } from '../uapi/errno.ts';

/** Of revision 3; revisions 1 and 2 have 152 and 156. */
export const CONNTRACK_BYTES = 164;

/** XT_CONNTRACK_*: the same bits in match_flags and invert_flags. */
export const ConntrackFlag = {
  STATE: 0x1,
  PROTOCOL: 0x2,
  ORIGINAL_SOURCE: 0x4,
  STATUS: 0x40,
  EXPIRES: 0x80,
  ORIGINAL_SOURCE_PORT: 0x100,
  DIRECTION: 0x1000,
  /** The rule was written with `-m state`. */
  STATE_ALIAS: 0x2000,
  ALL: 0x3fff,
} as const;

/** Byte offsets; those from `STATE` on are of revisions 2 and 3. */
export const ConntrackPlace = {
  ADDRESSES: 0,
  EXPIRES_MIN: 128,
  EXPIRES_MAX: 132,
  PROTOCOL: 136,
  PORTS: 138,
  MATCH: 146,
  INVERT: 148,
  STATE: 150,
  STATUS: 152,
  HIGH_PORTS: 154,
} as const;

/** The state condition of a use that was written with `-m state`; `undefined` for all others. */
export function decodeStateAlias(view: DataView): { bits: number; negate: boolean } | undefined {
  const match = view.getUint16(ConntrackPlace.MATCH, true);
  if ((match & ConntrackFlag.STATE_ALIAS) === 0) return undefined;
  if (match !== (ConntrackFlag.STATE | ConntrackFlag.STATE_ALIAS))
    unwritten('conntrack is called state but asks for more');
  return {
    bits: view.getUint16(ConntrackPlace.STATE, true),
    negate: (view.getUint16(ConntrackPlace.INVERT, true) & ConntrackFlag.STATE) !== 0,
  };
}

export function encodeStateAlias(view: DataView, bits: number, negate: boolean): void {
  view.setUint16(ConntrackPlace.MATCH, ConntrackFlag.STATE | ConntrackFlag.STATE_ALIAS, true);
  view.setUint16(ConntrackPlace.INVERT, negate ? ConntrackFlag.STATE : 0, true);
  view.setUint16(ConntrackPlace.STATE, bits, true);
}
