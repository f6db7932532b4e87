/**
 * tcx links: an ordered list of programs at each side of a device.
 * Source: kernel/bpf/tcx.c, kernel/bpf/mprog.c (bpf_mprog_attach).
 */
import { NetstackError } from '../../errno.ts';
import type { NetDevice } from '../../skb.ts';
import { AttachType, type LinkProgram, ProgramType } from './program.ts';

export const BPF_F_BEFORE = 8;
export const BPF_F_AFTER = 16;
/** BPF_MPROG_MAX. */
const PROGRAMS_MAX = 64;

export const TCX_NEXT = -1;
export const TCX_PASS = 0;
export const TCX_DROP = 2;
export const TCX_REDIRECT = 7;

export interface TcxAttach {
  readonly ifindex: number;
  /** TCX_INGRESS or TCX_EGRESS. */
  readonly attachType: number;
  /** BPF_F_BEFORE, BPF_F_AFTER or none (last). */
  readonly flags?: number;
  /** What `flags` refers to; without one, the first or the last. */
  readonly relative?: TcxLink | LinkProgram;
  /** Refuse unless the list is still at this revision; 0: whatever it is. */
  readonly expectedRevision?: bigint;
}

interface List {
  links: readonly TcxLink[];
  revision: bigint;
}

/** An attached program. */
export class TcxLink {
  readonly device: NetDevice;
  readonly attachType: number;
  #program: LinkProgram;
  #list: List | undefined;

  constructor(device: NetDevice, attachType: number, program: LinkProgram, list: List) {
    this.device = device;
    this.attachType = attachType;
    this.#program = program;
    this.#list = list;
  }

  get program(): LinkProgram {
    return this.#program;
  }

  get attached(): boolean {
    return this.#list !== undefined;
  }

  /** Swaps the program under traffic. @throws NetstackError EINVAL another type; ENODEV (ENOLINK there) when detached */
  update(program: LinkProgram): void {
    if (this.#list === undefined)
      throw new NetstackError('ENODEV', 'the link is detached', 'attach the program anew');
    requireClassifier(program);
    if (program.id === this.#program.id) return;
    this.#program = program;
    this.#list.revision++;
  }

  detach(): void {
    if (this.#list === undefined) return;
    this.#list.links = this.#list.links.filter((link) => link !== this);
    // With its last program the kernel frees the list, and the next one starts anew (tcx_link_release).
    this.#list.revision = this.#list.links.length === 0 ? 1n : this.#list.revision + 1n;
    this.#list = undefined;
  }
}

/** The tcx programs of one namespace. */
export class TcxHooks {
  readonly #lists = new Map<string, List>();
  readonly #device: (ifindex: number) => NetDevice | undefined;

  constructor(device: (ifindex: number) => NetDevice | undefined) {
    this.#device = device;
  }

  /** Links in the order in which their programs run, and the revision of that list. */
  query(
    ifindex: number,
    attachType: number,
  ): { readonly links: readonly TcxLink[]; readonly revision: bigint } {
    return this.#lists.get(`${ifindex}/${attachType}`) ?? { links: [], revision: 1n };
  }

  /**
   * @throws NetstackError, nothing having changed: EINVAL program or attach type, flags; ENODEV no such device; ESTALE another
   *   revision; EEXIST the program is there; ENOENT what it refers to is not; ERANGE beyond 64, or before and after at once
   */
  attach(program: LinkProgram, attach: TcxAttach): TcxLink {
    const { ifindex, attachType, flags = 0, expectedRevision = 0n } = attach;
    requireClassifier(program);
    if (attachType !== AttachType.TCX_INGRESS && attachType !== AttachType.TCX_EGRESS)
      throw new NetstackError('EINVAL', `attach type ${attachType}`, 'use TCX_INGRESS or TCX_EGRESS');
    const device = this.#device(ifindex);
    if (device === undefined)
      throw new NetstackError('ENODEV', `no device ${ifindex}`, 'name a device that exists');
    const key = `${ifindex}/${attachType}`;
    const list = this.#lists.get(key) ?? { links: [], revision: 1n };
    if (expectedRevision !== 0n && expectedRevision !== list.revision)
      throw new NetstackError(
        'ESTALE',
        `revision is ${list.revision}, not ${expectedRevision}`,
        'query it again',
      );
    if (list.links.some((link) => link.program.id === program.id))
      throw new NetstackError(
        'EEXIST',
        `program ${program.name} is attached here`,
        'attach each program once',
      );
    const at = place(list.links, flags, attach.relative);
    const link = new TcxLink(device, attachType, program, list);
    list.links = list.links.toSpliced(at, 0, link);
    list.revision++;
    this.#lists.set(key, list);
    return link;
  }
}

/** Index that a new program gets. */
function place(
  links: readonly TcxLink[],
  flags: number,
  relative: TcxLink | LinkProgram | undefined,
): number {
  if (links.length >= PROGRAMS_MAX)
    throw new NetstackError('ERANGE', `more than ${PROGRAMS_MAX} programs`, 'detach what is not needed');
  const before = (flags & BPF_F_BEFORE) !== 0;
  const after = (flags & BPF_F_AFTER) !== 0;
  // Other flags are looked at only where no direction is given.
  if (!before && !after) {
    if (relative !== undefined || flags !== 0)
      throw new NetstackError(
        'EINVAL',
        'a reference or flags without direction',
        'add the flag before or after',
      );
    return links.length;
  }
  const index =
    relative === undefined ? 0 : links.findIndex((link) => link === relative || link.program === relative);
  if (index < 0)
    throw new NetstackError('ENOENT', 'what it refers to is not attached here', 'query the list');
  if (before && after) throw new NetstackError('ERANGE', 'before and after at once', 'choose one');
  if (relative === undefined) return before ? 0 : links.length;
  return before ? index : index + 1;
}

function requireClassifier(program: LinkProgram): void {
  if (program.type !== ProgramType.SCHED_CLS)
    throw new NetstackError(
      'EINVAL',
      `program ${program.name} is no classifier`,
      'load it with type SCHED_CLS',
    );
}
