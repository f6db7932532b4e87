/** Ethertypes as a 16-bit load on a little-endian machine gives them (include/uapi/linux/if_ether.h). */
export const ETHERTYPE = {
  /** 0x0800 */
  ipv4: 0x0008,
  /** 0x86dd */
  ipv6: 0xdd86,
  /** 0x8100, 802.1Q */
  vlan: 0x0081,
  /** 0x88a8, 802.1ad */
  qinq: 0xa888,
} as const;
