/**
 * BPF links: an attachment that lives as long as a descriptor or pin of it (or its device, cgroup, namespace).
 * Source: kernel/bpf/syscall.c, net/netfilter/nf_bpf_link.c, net/core/dev.c, kernel/bpf/tcx.c, cgroup.c, net_namespace.c.
 */
import { ATTACH_TYPES, type AttachType, LINK_TYPES, nameOf } from '../../isa/index.ts';
import type { Program } from '../program/program.ts';
import { attr, BpfCommand, bpf, bpfError, tryBpf } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { Fd } from '../sys/fd.ts';
import { linkInfo, objectInfo, openById } from '../sys/info.ts';
import { encodeStruct, type StructInput } from '../sys/struct.ts';
import { LinkError, type LinkErrorReader } from './error.ts';

/** The five netfilter hooks by the kernel's numbers (include/uapi/linux/netfilter.h). */
export const NetfilterHook = {
  PRE_ROUTING: 0,
  LOCAL_IN: 1,
  FORWARD: 2,
  LOCAL_OUT: 3,
  POST_ROUTING: 4,
} as const;
export type NetfilterHook = (typeof NetfilterHook)[keyof typeof NetfilterHook];

/** What a link says of itself. `ifindex` 0, `cgroupId` 0n or `netnsInode` 0: the target has gone. */
export type LinkDescription = { readonly id: number; readonly programId: number } & (
  | {
      readonly kind: 'netfilter';
      readonly family: 'ipv4' | 'ipv6';
      readonly hook: NetfilterHook;
      readonly priority: number;
      /** Always false on kernels before 6.18, which do not report it. */
      readonly defragment: boolean;
    }
  | { readonly kind: 'xdp'; readonly ifindex: number }
  | { readonly kind: 'tcx'; readonly ifindex: number; readonly direction: 'ingress' | 'egress' }
  | { readonly kind: 'cgroup'; readonly cgroupId: bigint; readonly attachType: AttachType | undefined }
  | { readonly kind: 'netns'; readonly netnsInode: number; readonly attachType: AttachType | undefined }
  | { readonly kind: 'other'; readonly type: string }
);

const BPF_F_REPLACE = 4;

export class Link {
  readonly fd: Fd;

  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** The link with this id, `undefined` when there is none. */
  static byId(id: number): Link | undefined {
    const fd = openById('link', id);
    return fd === undefined ? undefined : new Link(fd);
  }

  get id(): number {
    return objectInfo(this.fd.number, linkInfo, this.fd.label).id;
  }

  describe(): LinkDescription {
    const info = objectInfo(this.fd.number, linkInfo, this.fd.label);
    const { id, programId } = info;
    switch (info.type) {
      case LINK_TYPES.BPF_LINK_TYPE_NETFILTER:
        return {
          kind: 'netfilter',
          id,
          programId,
          family: info.netfilterFamily === 2 ? 'ipv4' : 'ipv6',
          hook: info.netfilterHook as NetfilterHook,
          priority: info.netfilterPriority,
          defragment: (info.netfilterFlags & 1) !== 0,
        };
      case LINK_TYPES.BPF_LINK_TYPE_XDP:
        return { kind: 'xdp', id, programId, ifindex: info.ifindex };
      case LINK_TYPES.BPF_LINK_TYPE_TCX: {
        const direction = info.tcxAttachType === ATTACH_TYPES.BPF_TCX_INGRESS ? 'ingress' : 'egress';
        return { kind: 'tcx', id, programId, ifindex: info.ifindex, direction };
      }
      case LINK_TYPES.BPF_LINK_TYPE_CGROUP: {
        const attachType = nameOf(ATTACH_TYPES, info.cgroupAttachType);
        return { kind: 'cgroup', id, programId, cgroupId: info.cgroupId, attachType };
      }
      case LINK_TYPES.BPF_LINK_TYPE_NETNS: {
        const attachType = nameOf(ATTACH_TYPES, info.netnsAttachType);
        return { kind: 'netns', id, programId, netnsInode: info.netnsInode, attachType };
      }
      default:
        return {
          kind: 'other',
          id,
          programId,
          type: nameOf(LINK_TYPES, info.type) ?? `BPF_LINK_TYPE_${info.type}`,
        };
    }
  }

  /**
   * Puts another program in place, with no instant between them. With `expected`, only if that one is attached now.
   * @throws {LinkError} `LINK_UNSUPPORTED` (netfilter links have no update), `LINK_PROGRAM`, `LINK_REPLACED`, `LINK_GONE`
   */
  update(program: Program, expected?: Program): void {
    const result = tryBpf(
      BpfCommand.LINK_UPDATE,
      encodeStruct(attr.linkUpdate, {
        linkFd: this.fd.number,
        newProgramFd: program.fd.number,
        flags: expected === undefined ? 0 : BPF_F_REPLACE,
        oldProgramFd: expected?.fd.number,
      }),
    );
    if (result < 0)
      throw (
        updateError(this.fd.label, -result) ?? bpfError('LINK_UPDATE', -result, `updating ${this.fd.label}`)
      );
  }

  /** Detaches now, whoever else holds the link (pins too). A second call does nothing. */
  detach(): void {
    bpf('LINK_DETACH', attr.linkDetach, { linkFd: this.fd.number }, `detaching ${this.fd.label}`);
  }

  /** Closes the descriptor; detaches unless the link is pinned or otherwise held. */
  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function updateError(label: string, errno: number): LinkError | undefined {
  switch (errno) {
    case Errno.EOPNOTSUPP:
      return new LinkError(
        'LINK_UNSUPPORTED',
        errno,
        `${label} cannot change its program`,
        'attach a dispatcher once and replace what it tail-calls in its program array',
      );
    case Errno.EINVAL:
      return new LinkError('LINK_PROGRAM', errno, `${label} takes no program of this type`);
    case Errno.EPERM:
    case Errno.ESTALE:
      return new LinkError(
        'LINK_REPLACED',
        errno,
        `${label} has another program than expected, or may not be changed`,
      );
    case Errno.ENOLINK:
      return new LinkError(
        'LINK_GONE',
        errno,
        `the device, cgroup or namespace of ${label} has gone`,
        'attach anew',
      );
    default:
      return undefined;
  }
}

/**
 * Creates a link. `read` tells what the attach point's errnos mean.
 * @throws {LinkError} what `read` gives, else {SyscallError}
 */
export function createLink(
  label: string,
  attachType: AttachType,
  program: Program,
  values: StructInput<typeof attr.linkCreate>,
  read: LinkErrorReader,
): Link {
  const request = { programFd: program.fd.number, attachType: ATTACH_TYPES[attachType], ...values };
  const result = tryBpf(BpfCommand.LINK_CREATE, encodeStruct(attr.linkCreate, request));
  if (result < 0)
    throw read(-result) ?? bpfError('LINK_CREATE', -result, `attaching "${program.name}" to ${label}`);
  const fd = new Fd(result, `link of "${program.name}" at ${label}`);
  return new Link(fd);
}
