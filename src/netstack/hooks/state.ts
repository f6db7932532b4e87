/** What a hook function is called with, and what registers it. Source: include/linux/netfilter.h. */
import type { NetDevice, SkBuff } from '../skb.ts';

/** The namespace as hooks see it: only told apart here, each user knows more of its own. */
export interface HookNamespace {
  /** Going: its packets are dropped and its hook lists no longer compiled. */
  readonly dying: boolean;
}

/** struct nf_hook_state: one for each passage of a packet through a hook list. */
export interface NfHookState {
  readonly hook: number;
  readonly pf: number;
  readonly in: NetDevice | undefined;
  readonly out: NetDevice | undefined;
  /** The sending socket, opaque. */
  readonly sk: unknown;
  readonly net: HookNamespace;
  /** Where an accepted packet goes on. */
  readonly okfn: (skb: SkBuff) => void;
}

/** A hook function: its verdict, see verdict.ts. */
export type HookFunction = (priv: unknown, skb: SkBuff, state: NfHookState) => number;

/** struct nf_hook_ops. One object is one registration. */
export interface NfHookOps {
  readonly hook: HookFunction;
  readonly priv?: unknown;
  readonly pf: number;
  readonly hooknum: number;
  /** Signed 32-bit. */
  readonly priority: number;
  /** A BPF hook must have its priority to itself when it comes; the others share. */
  readonly type?: 'bpf' | 'nf-tables';
  /** Families NETDEV and INET ingress: the device. */
  readonly dev?: NetDevice;
  /** For listings and traces. */
  readonly name: string;
}
