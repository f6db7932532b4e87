/** XDP links (Linux 5.9), net/core/dev.c: one program per device and mode. */
import { findDevice } from '../netlink/device.ts';
import { Program } from '../program/program.ts';
import { Errno } from '../sys/errno.ts';
import { LinkError } from './error.ts';
import { createLink, type Link } from './link.ts';

/** `native`: in the driver. `generic`: in the stack, any device, slower. `auto`: native where the driver can. */
export type XdpMode = 'native' | 'generic' | 'auto';

export interface XdpAttachment {
  /** Device index in the caller's namespace. */
  readonly ifindex: number;
  readonly mode: XdpMode;
}

const MODE_FLAG = { auto: 0, generic: 2, native: 4 } as const;

/**
 * Attaches to a device of the caller's network namespace.
 * @throws {LinkError} `LINK_DEVICE_BUSY`, `LINK_NO_DEVICE`, `LINK_UNSUPPORTED`, `LINK_PROGRAM`
 */
export function attachXdp(program: Program, at: XdpAttachment): Link {
  const label = `xdp (${at.mode}) on device ${at.ifindex}`;
  const missing = (errno: number): LinkError =>
    new LinkError('LINK_NO_DEVICE', errno, `no device has index ${at.ifindex} in this namespace`);
  return createLink(label, 'BPF_XDP', program, { target: at.ifindex, flags: MODE_FLAG[at.mode] }, (errno) => {
    switch (errno) {
      case Errno.EBUSY:
      case Errno.EEXIST:
        return new LinkError(
          'LINK_DEVICE_BUSY',
          errno,
          `device ${at.ifindex} runs another XDP program: ${owner(at.ifindex)}`,
          'detach it, or attach at tcx instead',
        );
      case Errno.ENODEV:
        return missing(errno);
      case Errno.EOPNOTSUPP:
        return new LinkError(
          'LINK_UNSUPPORTED',
          errno,
          `the driver of device ${at.ifindex} cannot run XDP natively`,
          'use the generic mode (sluice apply --xdp-mode generic), or tcx',
        );
      case Errno.ERANGE:
      case Errno.E2BIG:
        return new LinkError(
          'LINK_UNSUPPORTED',
          errno,
          `the frames of device ${at.ifindex} are too large for this program`,
          'lower its mtu (of a veth: that of its peer), or use the generic mode',
        );
      case Errno.EINVAL:
        // The kernel says EINVAL for a missing device too.
        return findDevice(at.ifindex) === undefined
          ? missing(errno)
          : new LinkError(
              'LINK_PROGRAM',
              errno,
              `${label} takes no program of this type or with this attach type`,
            );
      default:
        return undefined;
    }
  });
}

/** Names the program that a device runs now. */
function owner(ifindex: number): string {
  const device = findDevice(ifindex);
  if (device === undefined) return 'the device has gone meanwhile';
  const id = device.xdp.native || device.xdp.generic || device.xdp.offloaded;
  const program = id === 0 ? undefined : Program.byId(id);
  const name = program?.name ?? '';
  program?.close();
  const mode = device.xdp.native === id ? 'native' : device.xdp.generic === id ? 'generic' : 'offloaded';
  return `"${name}" (program id ${id}, ${mode})`;
}
