/** Link types of captures (tcpdump.org/linktypes.html) that Sluice reads packets from. */
export const LinkType = {
  NULL: 0,
  ETHERNET: 1,
  /** DLT_RAW as BSD and OpenBSD number it in files. */
  RAW_12: 12,
  RAW_14: 14,
  RAW: 101,
  LOOP: 108,
  LINUX_SLL: 113,
  IPV4: 228,
  IPV6: 229,
  LINUX_SLL2: 276,
} as const;
export type LinkType = (typeof LinkType)[keyof typeof LinkType];

const NAMES: ReadonlyMap<number, string> = new Map<number, string>([
  [LinkType.NULL, 'BSD loopback'],
  [LinkType.ETHERNET, 'Ethernet'],
  [LinkType.RAW_12, 'raw IP'],
  [LinkType.RAW_14, 'raw IP'],
  [LinkType.RAW, 'raw IP'],
  [LinkType.LOOP, 'OpenBSD loopback'],
  [LinkType.LINUX_SLL, 'Linux cooked v1'],
  [LinkType.IPV4, 'raw IPv4'],
  [LinkType.IPV6, 'raw IPv6'],
  [LinkType.LINUX_SLL2, 'Linux cooked v2'],
]);

/** True for link types that a Frame can be loaded from. */
export function isSupportedLinkType(linkType: number): linkType is LinkType {
  return NAMES.has(linkType);
}

/** A name for messages, or `link type N`. */
export function linkTypeName(linkType: number): string {
  return NAMES.get(linkType) ?? `link type ${linkType}`;
}
