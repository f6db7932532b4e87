/** Netfilter links (Linux 6.4), net/netfilter/nf_bpf_link.c: one more hook function at a hook of one family. */
import { Program } from '../program/program.ts';
import { Errno } from '../sys/errno.ts';
import { listIds } from '../sys/info.ts';
import { LinkError } from './error.ts';
import { createLink, Link, NetfilterHook } from './link.ts';

export interface NetfilterAttachment {
  readonly family: 'ipv4' | 'ipv6';
  readonly hook: NetfilterHook;
  /** Lower runs first. INT_MIN and INT_MAX are reserved; with `defragment` it must be above -400. */
  readonly priority: number;
  /** BPF_F_NETFILTER_IP_DEFRAG: the program sees whole packets; defragmentation stays on while the link lives. */
  readonly defragment?: boolean;
}

const PF = { ipv4: 2, ipv6: 10 } as const;
const BPF_F_NETFILTER_IP_DEFRAG = 1;
/** NF_IP_PRI_CONNTRACK_DEFRAG: where defragmentation itself stands. */
const DEFRAG_PRIORITY = -400;

/**
 * Attaches in the caller's network namespace (see `withNetns`); the link keeps that namespace alive.
 * @throws {LinkError} `LINK_PRIORITY_TAKEN`, `LINK_PRIORITY_RANGE`, `LINK_TOO_MANY`, `LINK_UNSUPPORTED`, `LINK_PROGRAM`
 */
export function attachNetfilter(program: Program, at: NetfilterAttachment): Link {
  const hookName = Object.keys(NetfilterHook)[at.hook] ?? `hook ${at.hook}`;
  const label = `${at.family} ${hookName} priority ${at.priority}`;
  return createLink(
    label,
    'BPF_NETFILTER',
    program,
    {
      netfilterFamily: PF[at.family],
      netfilterHook: at.hook,
      netfilterPriority: at.priority,
      netfilterFlags: at.defragment === true ? BPF_F_NETFILTER_IP_DEFRAG : 0,
    },
    (errno) => readErrno(errno, label, at),
  );
}

function readErrno(errno: number, label: string, at: NetfilterAttachment): LinkError | undefined {
  switch (errno) {
    case Errno.EBUSY:
      return new LinkError(
        'LINK_PRIORITY_TAKEN',
        errno,
        `something is attached at ${label} already: ${owner(at)}`,
        'choose another priority; odd ones are rarely taken',
      );
    case Errno.ERANGE:
      return at.defragment === true && at.priority <= DEFRAG_PRIORITY
        ? new LinkError(
            'LINK_PRIORITY_RANGE',
            errno,
            `priority ${at.priority} comes before defragmentation (${DEFRAG_PRIORITY})`,
            `use ${DEFRAG_PRIORITY + 1} or more, or attach without defragmentation`,
          )
        : new LinkError(
            'LINK_PRIORITY_RANGE',
            errno,
            `the kernel keeps priority ${at.priority} to itself`,
            'use a priority between -2147483647 and 2147483646',
          );
    case Errno.E2BIG:
      return new LinkError(
        'LINK_TOO_MANY',
        errno,
        `${label}: the hook is full (1024 functions)`,
        'detach others first',
      );
    case Errno.EPROTO:
      return new LinkError(
        'LINK_UNSUPPORTED',
        errno,
        `there is no netfilter hook ${at.hook}`,
        'hooks are 0 to 4',
      );
    case Errno.EAFNOSUPPORT:
    case Errno.ENOENT:
      return new LinkError('LINK_UNSUPPORTED', errno, `this kernel cannot do ${label}`, 'see sluice doctor');
    case Errno.EOPNOTSUPP:
      return new LinkError(
        'LINK_UNSUPPORTED',
        errno,
        'this kernel cannot defragment for programs',
        'use Linux 6.6 or later',
      );
    case Errno.EINVAL:
      return new LinkError(
        'LINK_PROGRAM',
        errno,
        `${label} takes netfilter programs only`,
        'netfilter links need Linux 6.4',
      );
    default:
      return undefined;
  }
}

/** The kernel names no owner of a netfilter hook, but BPF links can be listed and others keep to known priorities. */
function owner(at: NetfilterAttachment): string {
  const { priority, hook } = at;
  const link = bpfOwner(at);
  if (link !== undefined) return link;
  if (priority === 2147483647 && (hook === NetfilterHook.LOCAL_IN || hook === NetfilterHook.POST_ROUTING)) {
    return 'connection tracking';
  }
  return KNOWN_PRIORITIES[priority] ?? 'an nftables chain';
}

const KNOWN_PRIORITIES: Readonly<Record<number, string>> = {
  [-400]: 'defragmentation',
  [-300]: "iptables' raw table",
  [-225]: 'SELinux',
  [-200]: 'connection tracking',
  [-150]: "iptables' mangle table",
  [-100]: 'destination NAT',
  0: "iptables' filter table or an nftables filter chain",
  50: "iptables' security table",
  100: 'source NAT',
  225: 'SELinux',
  300: 'connection tracking helpers',
};

/** A link at this place, of this namespace or another: links do not tell which. */
function bpfOwner(at: NetfilterAttachment): string | undefined {
  for (const id of listIds('link')) {
    const link = Link.byId(id);
    if (link === undefined) continue;
    try {
      const info = link.describe();
      if (info.kind !== 'netfilter' || info.family !== at.family) continue;
      if (info.hook !== at.hook || info.priority !== at.priority) continue;
      const program = Program.byId(info.programId);
      const name = program?.name ?? '';
      program?.close();
      return `BPF link ${id} of program "${name}" (id ${info.programId})`;
    } finally {
      link.close();
    }
  }
  return undefined;
}
