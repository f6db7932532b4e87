/**
 * The host around the tables, for targets that do more than decide: they translate, answer, rewrite and track. Who evaluates
 * tables without one refuses such targets, and no compiled program can run them.
 */

/** What stands in for an address or a port; the shape of struct nf_nat_range2. */
export interface TranslationRange {
  readonly addresses?: { readonly min: Uint8Array; readonly max: Uint8Array } | undefined;
  readonly ports?:
    | { readonly min: number; readonly max: number; readonly base: number | undefined }
    | undefined;
  readonly random?: boolean;
  readonly randomFully?: boolean;
  readonly persistent?: boolean;
}

/** What a rule of the nat table wants of a new connection. */
export type Translation =
  /** SNAT and DNAT: the hook says which end. */
  | { readonly kind: 'range'; readonly range: TranslationRange }
  | { readonly kind: 'masquerade'; readonly range: TranslationRange }
  | { readonly kind: 'redirect'; readonly range: TranslationRange }
  /** NETMAP: the network part is replaced. */
  | { readonly kind: 'network'; readonly address: Uint8Array; readonly mask: Uint8Array };

/** One packet's host. */
export interface PacketHost {
  /** The packet is these bytes from now on; their checksums are right. */
  replace(bytes: Uint8Array): void;
  translate(translation: Translation): 'accept' | 'drop';
  /** Conntrack passes this packet by. Without effect once it has looked. */
  untrack(): void;
  /** Conntrack looks in this zone. Without effect once it has looked. */
  setZone(zone: number): void;
  /** `undefined` when the packet belongs to no connection. */
  connectionMark: number | undefined;
  /** Answers as `-j REJECT` does; the number of enum ipt_reject_with or ip6t_reject_with. */
  refuse(kind: number): void;
  /** skb->priority. */
  setPriority(priority: number): void;
  /** Sends a copy to another host; an empty device: the route decides. */
  duplicate(gateway: Uint8Array, device: string): void;
  /**
   * Hands the packet to a transparent socket: that of its connection, else one that listens at this address (default: the
   * device's) and port (0: the packet's). @returns false when there is none
   */
  redirectToSocket(address: Uint8Array | undefined, port: number): boolean;
  /** MTU towards the destination, and back to the source. */
  pathMtu(): number;
}
