/** XDP links: one program a device. Source: net/core/dev.c (dev_xdp_attach_link, dev_xdp_attach), as veth answers. */
import { NetstackError } from '../../errno.ts';
import type { NetDevice } from '../../skb.ts';
import { AttachType, type LinkProgram, ProgramType } from './program.ts';

export const XDP_FLAGS_SKB_MODE = 2;
export const XDP_FLAGS_DRV_MODE = 4;
export const XDP_FLAGS_HW_MODE = 8;
const XDP_FLAGS_MODES = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE;

export interface XdpAttach {
  readonly ifindex: number;
  /** One mode flag or none (native). */
  readonly flags?: number;
  /** Default: XDP. */
  readonly attachType?: number;
}

/** An attached program; `update` swaps it under traffic. */
export class XdpLink {
  readonly device: NetDevice;
  readonly mode: 'native' | 'generic';
  #program: LinkProgram;
  #release: (() => void) | undefined;

  constructor(device: NetDevice, mode: 'native' | 'generic', program: LinkProgram, release: () => void) {
    this.device = device;
    this.mode = mode;
    this.#program = program;
    this.#release = release;
  }

  get program(): LinkProgram {
    return this.#program;
  }

  get attached(): boolean {
    return this.#release !== undefined;
  }

  /** @throws NetstackError EINVAL for another program type; ENODEV (ENOLINK there) when detached */
  update(program: LinkProgram): void {
    if (this.#release === undefined)
      throw new NetstackError('ENODEV', 'the link is detached', 'attach the program anew');
    requireXdp(program);
    this.#program = program;
  }

  detach(): void {
    this.#release?.();
    this.#release = undefined;
  }
}

/** The XDP programs of one namespace. */
export class XdpHooks {
  readonly #links = new Map<number, XdpLink>();
  readonly #device: (ifindex: number) => NetDevice | undefined;

  constructor(device: (ifindex: number) => NetDevice | undefined) {
    this.#device = device;
  }

  /** What runs on a device. */
  link(ifindex: number): XdpLink | undefined {
    return this.#links.get(ifindex);
  }

  /**
   * @throws NetstackError, nothing having changed: EINVAL program type, device, flags; EBUSY the device has a program in this
   *   mode; EEXIST it has one in the other mode
   */
  attach(program: LinkProgram, { ifindex, flags = 0, attachType = AttachType.XDP }: XdpAttach): XdpLink {
    requireXdp(program);
    if (attachType !== AttachType.XDP)
      throw new NetstackError('EINVAL', `attach type ${attachType}`, 'XDP programs attach as XDP');
    const device = this.#device(ifindex);
    if (device === undefined)
      throw new NetstackError('EINVAL', `no device ${ifindex}`, 'name a device that exists');
    if ((flags & ~XDP_FLAGS_MODES) !== 0)
      throw new NetstackError(
        'EINVAL',
        `flags ${flags}`,
        'links take a mode only: 2 (generic) or 4 (native)',
      );
    const modes = [XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE].filter(
      (mode) => (flags & mode) !== 0,
    );
    if (modes.length > 1) throw new NetstackError('EINVAL', `flags ${flags} name two modes`, 'choose one');
    const present = this.#links.get(ifindex);
    const mode = (flags & XDP_FLAGS_SKB_MODE) !== 0 ? 'generic' : 'native';
    if ((flags & XDP_FLAGS_HW_MODE) !== 0)
      throw new NetstackError(
        'EINVAL',
        `${device.name} cannot run programs itself`,
        'use 2 (generic) or 4 (native)',
      );
    if (present !== undefined)
      throw present.mode === mode
        ? new NetstackError(
            'EBUSY',
            `${device.name} has an XDP program`,
            'update that link, or detach it first',
          )
        : new NetstackError(
            'EEXIST',
            `${device.name} has a program in ${present.mode} mode`,
            'use that mode',
          );
    const link: XdpLink = new XdpLink(device, mode, program, () => {
      if (this.#links.get(ifindex) === link) this.#links.delete(ifindex);
    });
    this.#links.set(ifindex, link);
    return link;
  }
}

function requireXdp(program: LinkProgram): void {
  if (program.type !== ProgramType.XDP)
    throw new NetstackError('EINVAL', `program ${program.name} is no XDP program`, 'load it with type XDP');
}
