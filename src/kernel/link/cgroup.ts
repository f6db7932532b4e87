/** cgroup_skb links (Linux 5.7), kernel/bpf/cgroup.c: packets of the sockets of a cgroup and its descendants. */
import { closeSync, constants, openSync } from 'node:fs';
import type { Program } from '../program/program.ts';
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError } from '../sys/error.ts';
import { LinkError } from './error.ts';
import { createLink, type Link } from './link.ts';

export interface CgroupAttachment {
  /** Directory in the cgroup v2 hierarchy. */
  readonly path: string;
  readonly direction: 'ingress' | 'egress';
}

/**
 * Attaches to a cgroup; other programs there keep running (a packet passes when all accept).
 * @throws {LinkError} `LINK_UNSUPPORTED`, `LINK_PROGRAM`, `LINK_TOO_MANY`
 * @throws {KernelArgumentError} when the path cannot be opened
 */
export function attachCgroup(program: Program, at: CgroupAttachment): Link {
  const label = `cgroup ${at.path} ${at.direction}`;
  const attachType = at.direction === 'ingress' ? 'BPF_CGROUP_INET_INGRESS' : 'BPF_CGROUP_INET_EGRESS';
  const directory = openCgroup(at.path);
  try {
    return createLink(label, attachType, program, { target: directory }, (errno) => {
      switch (errno) {
        case Errno.EBADF:
          return new LinkError(
            'LINK_UNSUPPORTED',
            errno,
            `${at.path} is not in the cgroup v2 hierarchy`,
            'find its mount with: grep cgroup2 /proc/self/mountinfo',
          );
        case Errno.EPERM:
          return new LinkError(
            'LINK_UNSUPPORTED',
            errno,
            `${at.path} or one above it has a program attached that allows no others, or privilege is missing`,
            'see bpftool cgroup tree; run as root',
          );
        case Errno.EINVAL:
          return new LinkError('LINK_PROGRAM', errno, `${label} takes cgroup_skb programs only`);
        case Errno.E2BIG:
          return new LinkError(
            'LINK_TOO_MANY',
            errno,
            `${label} is full (64 programs)`,
            'detach others first',
          );
        default:
          return undefined;
      }
    });
  } finally {
    closeSync(directory);
  }
}

/** Opens a cgroup directory. The caller closes it. */
export function openCgroup(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KernelArgumentError(
      `cgroup ${path} cannot be opened: ${reason}`,
      'give a directory below the cgroup2 mount',
    );
  }
}
