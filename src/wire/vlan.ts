/** VLAN tags, single and stacked (IEEE 802.1Q §9; 802.1ad; the older 0x9100 outer tag). */
import { concatenate, read16, write16 } from './bytes.ts';
import { EtherType } from './ethernet.ts';
import { requireBits } from './problem.ts';

/** Bytes that each tag adds. */
export const VLAN_HLEN = 4;

/** One tag. `tpid` is the EtherType that announces it; `tci` holds priority, drop-eligible bit and id. */
export interface VlanTag {
  readonly tpid: number;
  readonly tci: number;
}

/** True for the EtherTypes that announce a tag. */
export function isVlanType(etherType: number): boolean {
  return (
    etherType === EtherType.ETH_P_8021Q ||
    etherType === EtherType.ETH_P_8021AD ||
    etherType === EtherType.ETH_P_QINQ1
  );
}

/** VLAN id, 0 to 4095. */
export function vlanId(tci: number): number {
  return tci & 0x0fff;
}

/** Priority code point, 0 to 7. */
export function vlanPriority(tci: number): number {
  return (tci >>> 13) & 7;
}

/** Drop-eligible indicator. */
export function vlanDropEligible(tci: number): boolean {
  return (tci & 0x1000) !== 0;
}

/**
 * Puts tags, outermost first, before a payload: what follows the two MAC addresses. The first tag's `tpid` becomes
 * the frame's type field, `etherType` the innermost one.
 */
export function emitVlan(tags: readonly VlanTag[], etherType: number, payload: Uint8Array): Uint8Array {
  requireBits('ethertype', etherType, 16);
  const stack = new Uint8Array(tags.length * VLAN_HLEN + 2);
  for (const [index, tag] of tags.entries()) {
    requireBits('vlan tpid', tag.tpid, 16);
    requireBits('vlan tci', tag.tci, 16);
    write16(stack, index * VLAN_HLEN, tag.tpid);
    write16(stack, index * VLAN_HLEN + 2, tag.tci);
  }
  write16(stack, tags.length * VLAN_HLEN, etherType);
  return concatenate(stack, payload);
}

/** Tags from `offset`, where the outermost type field stands, and where what they wrap begins. */
export function parseVlan(
  bytes: Uint8Array,
  offset: number,
  end: number = bytes.length,
): { readonly tags: VlanTag[]; readonly etherType: number; readonly payloadOffset: number } | undefined {
  const tags: VlanTag[] = [];
  let at = offset;
  while (at + 2 <= end) {
    const type = read16(bytes, at);
    if (!isVlanType(type)) return { tags, etherType: type, payloadOffset: at + 2 };
    if (at + 4 > end) return undefined;
    tags.push({ tpid: type, tci: read16(bytes, at + 2) });
    at += VLAN_HLEN;
  }
  return undefined;
}
