/** Numbers of nf_tables over nfnetlink: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h. All values big endian. */

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;

export const NftMessage = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
} as const;

/** Protocol families of tables. */
export const NftFamily = { ip: 2, ip6: 10, inet: 1 } as const;
export type NftFamily = keyof typeof NftFamily;

/** A message type within the nf_tables subsystem. */
export function nftType(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message;
}

/** struct nfgenmsg: family, version 0, resource id in network order. */
export function nfgenmsg(family: number, resource = 0): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(family, 0, resource >> 8, resource & 0xff);
}
