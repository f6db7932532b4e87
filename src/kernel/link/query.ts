/** What is attached where: bpf(2) PROG_QUERY. Netfilter and XDP have no such query (see devices and link ids). */
import { ATTACH_TYPES, type AttachType } from '../../isa/index.ts';
import { attr, BpfCommand, bpfError, tryBpf } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';

export interface AttachedProgram {
  readonly programId: number;
  /** 0 when it was attached without a link, or the attach point does not tell. */
  readonly linkId: number;
}

export interface AttachedPrograms {
  /** In the order in which they run. */
  readonly programs: readonly AttachedProgram[];
  /** Changes with the list; 0 where the attach point has none. */
  readonly revision: bigint;
}

/** More than any attach point takes (64), so that one call does unless the kernel grows. */
const ROOM = 128;

/**
 * Lists the programs at an attach point.
 * @param target device index (tcx), or descriptor of a cgroup directory or network namespace
 */
export function queryPrograms(target: number, attachType: AttachType): AttachedPrograms {
  for (let room = ROOM; ; room *= 4) {
    const programIds = new Uint32Array(room);
    const linkIds = new Uint32Array(room);
    // Only tcx and netkit lists know links; the other queries refuse buffers that they do not fill.
    const links = attachType.startsWith('BPF_TCX_') ? { linkIds } : {};
    const request = { target, attachType: ATTACH_TYPES[attachType], programIds, count: room, ...links };
    const bytes = encodeStruct(attr.programQuery, request);
    const result = tryBpf(BpfCommand.PROG_QUERY, bytes, request);
    if (result === -Errno.ENOSPC && room < 1 << 16) continue;
    // An attach point that never had a program.
    if (result === -Errno.ENOENT) return { programs: [], revision: 0n };
    if (result < 0) throw bpfError('PROG_QUERY', -result, `listing the programs at ${attachType}`);
    const { count, revision } = decodeStruct(attr.programQuery, bytes);
    const programs = Array.from({ length: count }, (_, index) => ({
      programId: programIds[index]!,
      linkId: linkIds[index]!,
    }));
    return { programs, revision };
  }
}
