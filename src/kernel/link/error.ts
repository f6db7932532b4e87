/** Why an attachment failed and what to do about it. */
import { KernelError } from '../sys/error.ts';

/**
 * - `LINK_PRIORITY_TAKEN`      another hook of this namespace has the same netfilter hook and priority
 * - `LINK_PRIORITY_RANGE`      a priority that the kernel reserves, or one that precedes defragmentation
 * - `LINK_TOO_MANY`            the hook, device or cgroup is full
 * - `LINK_DEVICE_BUSY`         the device has another XDP program in this mode
 * - `LINK_NO_DEVICE`           no such device in this namespace
 * - `LINK_STALE_REVISION`      others changed the list of programs since the revision was read
 * - `LINK_DUPLICATE`           this program is on the list already
 * - `LINK_NO_RELATIVE`         the program or link to stand before or after is not on the list
 * - `LINK_UNSUPPORTED`         the kernel, the device or the link type cannot do it
 * - `LINK_PROGRAM`             the program is of another type than the attach point takes
 * - `LINK_NETNS_BUSY`          the namespace has a program attached in an exclusive way
 * - `LINK_GONE`                the device, cgroup or namespace of the link has gone
 * - `LINK_REPLACED`            the link's program is not the one that was expected
 */
export type LinkErrorCode =
  | 'LINK_PRIORITY_TAKEN'
  | 'LINK_PRIORITY_RANGE'
  | 'LINK_TOO_MANY'
  | 'LINK_DEVICE_BUSY'
  | 'LINK_NO_DEVICE'
  | 'LINK_STALE_REVISION'
  | 'LINK_DUPLICATE'
  | 'LINK_NO_RELATIVE'
  | 'LINK_UNSUPPORTED'
  | 'LINK_PROGRAM'
  | 'LINK_NETNS_BUSY'
  | 'LINK_GONE'
  | 'LINK_REPLACED';

export class LinkError extends KernelError {
  declare readonly code: LinkErrorCode;
  /** Positive errno behind it. */
  readonly errno: number;
  constructor(code: LinkErrorCode, errno: number, message: string, hint?: string) {
    super(code, message, hint);
    this.errno = errno;
  }
}

/** What an errno of an attach point means: the error to throw, or `undefined` for the plain SyscallError. */
export type LinkErrorReader = (errno: number) => LinkError | undefined;
