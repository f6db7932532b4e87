/** Network namespace links (Linux 5.9), kernel/bpf/net_namespace.c: sk_lookup programs. */
import type { Program } from '../program/program.ts';
import { Errno } from '../sys/errno.ts';
import { LinkError } from './error.ts';
import { createLink, type Link } from './link.ts';

/**
 * Attaches an sk_lookup program to a namespace, after those that are there already (all run; the last choice wins).
 * @param netnsFd descriptor of the namespace (`/proc/…/ns/net`)
 * @throws {LinkError} `LINK_TOO_MANY`, `LINK_NETNS_BUSY`, `LINK_PROGRAM`
 */
export function attachSkLookup(program: Program, netnsFd: number): Link {
  const label = 'sk_lookup of a network namespace';
  return createLink(label, 'BPF_SK_LOOKUP', program, { target: netnsFd }, (errno) => {
    switch (errno) {
      case Errno.E2BIG:
        return new LinkError('LINK_TOO_MANY', errno, `${label}: full (64 programs)`, 'detach others first');
      case Errno.EEXIST:
        return new LinkError(
          'LINK_NETNS_BUSY',
          errno,
          `${label} is taken by a program attached without a link`,
        );
      case Errno.EINVAL:
        return new LinkError(
          'LINK_PROGRAM',
          errno,
          `${label} takes sk_lookup programs and namespace descriptors only`,
        );
      default:
        return undefined;
    }
  });
}
