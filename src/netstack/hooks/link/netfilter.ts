/**
 * Netfilter links: a program of type NETFILTER as a hook function, with reassembly before it when it asks.
 * Checks, their order and their errno are those of net/netfilter/nf_bpf_link.c (bpf_nf_link_attach).
 */
import type { DefragFamily, DefragSwitch } from '../../defrag/hook.ts';
import { NetstackError } from '../../errno.ts';
import type { SkBuff } from '../../skb.ts';
import { NF_INET_NUMHOOKS, NFPROTO_IPV4, NFPROTO_IPV6, Priority } from '../family.ts';
import type { HookRegistry } from '../registry.ts';
import type { NfHookOps, NfHookState } from '../state.ts';
import { NF_ACCEPT, NF_DROP } from '../verdict.ts';
import { AttachType, type LinkProgram, ProgramType } from './program.ts';

/** Fragments are reassembled before the program sees them. */
export const BPF_F_NETFILTER_IP_DEFRAG = 1;

export interface NetfilterProgram extends LinkProgram {
  /** @returns NF_DROP or NF_ACCEPT: the verifier allows no other */
  run(state: NfHookState, skb: SkBuff): number;
}

/** What LINK_CREATE is given. */
export interface NetfilterAttach {
  /** link_create.flags: none is defined. */
  readonly linkFlags?: number;
  /** Default: NETFILTER. */
  readonly attachType?: number;
  readonly pf: number;
  readonly hooknum: number;
  /** Signed 32-bit. */
  readonly priority: number;
  /** link_create.netfilter.flags. */
  readonly flags?: number;
}

/** What a link asks of its namespace. */
export interface NetfilterLinkNamespace {
  readonly netfilter: { readonly registry: HookRegistry };
  readonly defrag: DefragSwitch;
}

/** An attached program. Detaching twice is fine; a detached link cannot be used again. */
export class NetfilterLink {
  readonly program: NetfilterProgram;
  readonly pf: number;
  readonly hooknum: number;
  readonly priority: number;
  readonly flags: number;
  readonly #net: NetfilterLinkNamespace;
  readonly #ops: NfHookOps;
  readonly #defrag: DefragFamily | undefined;
  #attached = true;

  constructor(
    net: NetfilterLinkNamespace,
    program: NetfilterProgram,
    attach: NetfilterAttach,
    ops: NfHookOps,
    defrag: DefragFamily | undefined,
  ) {
    this.program = program;
    this.pf = attach.pf;
    this.hooknum = attach.hooknum;
    this.priority = attach.priority;
    this.flags = attach.flags ?? 0;
    this.#net = net;
    this.#ops = ops;
    this.#defrag = defrag;
  }

  get attached(): boolean {
    return this.#attached;
  }

  detach(): void {
    if (!this.#attached) return;
    this.#attached = false;
    this.#net.netfilter.registry.unregister(this.#ops);
    if (this.#defrag !== undefined) this.#net.defrag.disable(this.#defrag);
  }

  /** @throws NetstackError EOPNOTSUPP always: make a new link at another priority instead */
  update(): never {
    throw new NetstackError(
      'EOPNOTSUPP',
      'a netfilter link cannot be given another program',
      'attach the new program at another priority, then detach this link',
    );
  }
}

/** One function for all programs: generated hook programs are shared among namespaces then. */
function runProgram(priv: unknown, skb: SkBuff, state: NfHookState): number {
  return (priv as NetfilterProgram).run(state, skb) === NF_DROP ? NF_DROP : NF_ACCEPT;
}

/**
 * Attaches a program in a namespace.
 * @throws NetstackError, nothing having changed: EINVAL link flags, attach type or program type; EAFNOSUPPORT family; EPROTO
 *   hook; EOPNOTSUPP flags; ERANGE priority; EBUSY priority taken; E2BIG too many hooks; EOVERFLOW
 */
export function attachNetfilter(
  net: NetfilterLinkNamespace,
  program: NetfilterProgram,
  attach: NetfilterAttach,
): NetfilterLink {
  check(program, attach);
  const { pf, hooknum, priority } = attach;
  const wantsDefrag = ((attach.flags ?? 0) & BPF_F_NETFILTER_IP_DEFRAG) !== 0;
  const defrag = wantsDefrag ? (pf === NFPROTO_IPV4 ? 'ipv4' : 'ipv6') : undefined;
  const ops: NfHookOps = {
    hook: runProgram,
    priv: program,
    pf,
    hooknum,
    priority,
    type: 'bpf',
    name: `bpf ${program.name}`,
  };
  if (defrag !== undefined) net.defrag.enable(defrag);
  try {
    net.netfilter.registry.register(ops);
  } catch (error) {
    if (defrag !== undefined) net.defrag.disable(defrag);
    throw error;
  }
  return new NetfilterLink(net, program, attach, ops, defrag);
}

function check(program: NetfilterProgram, attach: NetfilterAttach): void {
  const { pf, hooknum, priority } = attach;
  const flags = attach.flags ?? 0;
  if ((attach.linkFlags ?? 0) !== 0)
    throw new NetstackError('EINVAL', `link flags ${attach.linkFlags}`, 'netfilter links take none');
  if (
    (attach.attachType ?? AttachType.NETFILTER) !== AttachType.NETFILTER ||
    program.type !== ProgramType.NETFILTER
  )
    throw new NetstackError(
      'EINVAL',
      `program ${program.name} of type ${program.type} is no netfilter program`,
      'load it with type NETFILTER',
    );
  if (pf !== NFPROTO_IPV4 && pf !== NFPROTO_IPV6)
    throw new NetstackError('EAFNOSUPPORT', `family ${pf}`, 'use 2 (IPv4) or 10 (IPv6)');
  if (hooknum < 0 || hooknum >= NF_INET_NUMHOOKS)
    throw new NetstackError('EPROTO', `no hook ${hooknum}`, 'use 0 (PRE_ROUTING) to 4 (POST_ROUTING)');
  if ((flags & ~BPF_F_NETFILTER_IP_DEFRAG) !== 0)
    throw new NetstackError('EOPNOTSUPP', `unknown flags ${flags}`, 'only 1 (defragment) is defined');
  if (priority === Priority.FIRST || priority === Priority.LAST)
    throw new NetstackError('ERANGE', `priority ${priority}`, 'the first and the last are reserved');
  if ((flags & BPF_F_NETFILTER_IP_DEFRAG) !== 0 && priority <= Priority.CONNTRACK_DEFRAG)
    throw new NetstackError(
      'ERANGE',
      `priority ${priority} runs before reassembly`,
      'use a priority above -400, or leave the defragmentation flag out',
    );
}
