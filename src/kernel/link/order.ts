/** Order among the programs of one attach point (kernel/bpf/mprog.c): tcx, and cgroups since Linux 6.16. */
import type { Program } from '../program/program.ts';
import type { attr } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import type { StructInput } from '../sys/struct.ts';
import { LinkError } from './error.ts';
import type { Link } from './link.ts';

/** A program or link that is on the list: the object, or its id. */
export type Neighbour =
  | { readonly program: Program }
  | { readonly link: Link }
  | { readonly programId: number }
  | { readonly linkId: number };

/** `first` and `last` are of the moment: who comes later may stand before the first. */
export type Position = 'first' | 'last' | { readonly before: Neighbour } | { readonly after: Neighbour };

export interface Ordering {
  readonly position?: Position;
  /** Fail unless the list is still at this revision (see `queryPrograms`). */
  readonly expectedRevision?: bigint;
}

const BPF_F_BEFORE = 1 << 3;
const BPF_F_AFTER = 1 << 4;
const BPF_F_ID = 1 << 5;
const BPF_F_LINK = 1 << 13;

/** The part of LINK_CREATE that says where to stand. */
export function orderingAttributes({
  position = 'last',
  expectedRevision,
}: Ordering): StructInput<typeof attr.linkCreate> {
  const revision = expectedRevision === undefined ? {} : { expectedRevision };
  if (position === 'first') return { flags: BPF_F_BEFORE, ...revision };
  if (position === 'last') return { flags: BPF_F_AFTER, ...revision };
  const side = 'before' in position ? BPF_F_BEFORE : BPF_F_AFTER;
  const neighbour = 'before' in position ? position.before : position.after;
  const [relative, kind] = relativeTo(neighbour);
  return { flags: side | kind, relative, ...revision };
}

function relativeTo(neighbour: Neighbour): readonly [relative: number, flags: number] {
  if ('program' in neighbour) return [neighbour.program.fd.number, 0];
  if ('link' in neighbour) return [neighbour.link.fd.number, BPF_F_LINK];
  if ('programId' in neighbour) return [neighbour.programId, BPF_F_ID];
  return [neighbour.linkId, BPF_F_ID | BPF_F_LINK];
}

/** What the errnos of an ordered list mean. */
export function readOrderingErrno(errno: number, label: string): LinkError | undefined {
  switch (errno) {
    case Errno.EEXIST:
      return new LinkError(
        'LINK_DUPLICATE',
        errno,
        `this program is at ${label} already`,
        'load it once more to attach twice',
      );
    case Errno.ESTALE:
      return new LinkError(
        'LINK_STALE_REVISION',
        errno,
        `the programs at ${label} have changed meanwhile`,
        'query them again',
      );
    case Errno.ENOENT:
      return new LinkError(
        'LINK_NO_RELATIVE',
        errno,
        `the program to stand before or after is not at ${label}`,
      );
    case Errno.ERANGE:
      return new LinkError('LINK_TOO_MANY', errno, `${label} takes no more programs`, 'detach others first');
    default:
      return undefined;
  }
}
