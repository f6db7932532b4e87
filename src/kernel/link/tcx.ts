/** tcx links (Linux 6.6), kernel/bpf/tcx.c: an ordered list of programs at a device's ingress or egress. */
import type { Program } from '../program/program.ts';
import { Errno } from '../sys/errno.ts';
import { LinkError } from './error.ts';
import { createLink, type Link } from './link.ts';
import { type Ordering, orderingAttributes, readOrderingErrno } from './order.ts';

export interface TcxAttachment extends Ordering {
  /** Device index in the caller's namespace. */
  readonly ifindex: number;
  readonly direction: 'ingress' | 'egress';
}

/**
 * Attaches to a device of the caller's network namespace, last in order unless `position` says otherwise.
 * @throws {LinkError} `LINK_NO_DEVICE`, `LINK_DUPLICATE`, `LINK_STALE_REVISION`, `LINK_NO_RELATIVE`, `LINK_TOO_MANY`, `LINK_PROGRAM`
 */
export function attachTcx(program: Program, at: TcxAttachment): Link {
  const label = `tcx ${at.direction} of device ${at.ifindex}`;
  const attachType = at.direction === 'ingress' ? 'BPF_TCX_INGRESS' : 'BPF_TCX_EGRESS';
  return createLink(
    label,
    attachType,
    program,
    { target: at.ifindex, ...orderingAttributes(at) },
    (errno) => {
      switch (errno) {
        case Errno.ENODEV:
          return new LinkError(
            'LINK_NO_DEVICE',
            errno,
            `no device has index ${at.ifindex} in this namespace`,
          );
        case Errno.EINVAL:
          return new LinkError(
            'LINK_PROGRAM',
            errno,
            `${label} takes tc programs only`,
            'tcx links need Linux 6.6',
          );
        default:
          return readOrderingErrno(errno, label);
      }
    },
  );
}
