/** Ethernet II headers (IEEE 802.3 §3.1; uapi/linux/if_ether.h). */
import { concatenate, copyBytes, read16, write16 } from './bytes.ts';
import { requireBits, requireLength, type WireProblem } from './problem.ts';

/** Bytes of an Ethernet header without tags. */
export const ETH_HLEN = 14;

/** EtherTypes, with the kernel's names. */
export const EtherType = {
  ETH_P_802_3: 0x0001,
  ETH_P_802_2: 0x0004,
  ETH_P_IP: 0x0800,
  ETH_P_ARP: 0x0806,
  ETH_P_8021Q: 0x8100,
  ETH_P_IPV6: 0x86dd,
  ETH_P_8021AD: 0x88a8,
  ETH_P_QINQ1: 0x9100,
} as const;

/** Values of the type field below this one are lengths of 802.3 frames (ETH_P_802_3_MIN). */
export const ETH_P_802_3_MIN = 0x0600;

/** Header fields; addresses are 6 bytes. */
export interface EthernetHeader {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  /** The type field as it stands: an EtherType, or below 0x600 a length. */
  readonly etherType: number;
}

/** What is wrong with the header at `offset`, or `undefined`. */
export function checkEthernet(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  return end - offset < ETH_HLEN ? 'truncated' : undefined;
}

/** The type field, host order. */
export function ethernetType(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 12);
}

/** Parses the header; `undefined` when {@link checkEthernet} finds a problem. */
export function parseEthernet(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): EthernetHeader | undefined {
  if (checkEthernet(bytes, offset, end) !== undefined) return undefined;
  return {
    destination: copyBytes(bytes, offset, offset + 6),
    source: copyBytes(bytes, offset + 6, offset + 12),
    etherType: ethernetType(bytes, offset),
  };
}

/** The header and what follows it. Throws WireError for values that do not fit. */
export function emitEthernet(header: EthernetHeader, payload: Uint8Array): Uint8Array {
  requireLength('ethernet destination', header.destination, 6);
  requireLength('ethernet source', header.source, 6);
  requireBits('ethertype', header.etherType, 16);
  const type = new Uint8Array(2);
  write16(type, 0, header.etherType);
  return concatenate(header.destination, header.source, type, payload);
}

/** Prints six bytes at `offset` as `00:11:22:33:44:55`. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  const parts: string[] = [];
  for (let index = 0; index < 6; index++)
    parts.push((bytes[offset + index]! | 0).toString(16).padStart(2, '0'));
  return parts.join(':');
}

/** Parses `00:11:22:33:44:55`, one or two digits each; `undefined` when it is not a MAC address. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$/.test(text)) return undefined;
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}
