/** OBJ_GET_INFO_BY_FD and the id lists: struct bpf_{prog,map,link}_info of include/uapi/linux/bpf.h. */
import { attr, BpfCommand, type BpfCommandName, bpf, bpfError, tryBpf } from './bpf.ts';
import { Errno } from './errno.ts';
import { Fd } from './fd.ts';
import {
  decodeStruct,
  encodeStruct,
  type Layout,
  type StructInput,
  type StructOutput,
  writeStruct,
} from './struct.ts';

export const programInfo = {
  size: 232,
  fields: {
    type: [0, 'u32'],
    id: [4, 'u32'],
    tag: [8, 'u64'],
    jitedLength: [16, 'u32'],
    xlatedLength: [20, 'u32'],
    jitedInstructions: [24, 'ptr'],
    xlatedInstructions: [32, 'ptr'],
    loadTimeNs: [40, 'u64'],
    createdByUid: [48, 'u32'],
    mapCount: [52, 'u32'],
    mapIds: [56, 'ptr'],
    name: [64, 'name16'],
    ifindex: [80, 'u32'],
    runTimeNs: [192, 'u64'],
    runCount: [200, 'u64'],
    recursionMisses: [208, 'u64'],
    verifiedInstructions: [216, 'u32'],
  },
} as const;

export const mapInfo = {
  size: 88,
  fields: {
    type: [0, 'u32'],
    id: [4, 'u32'],
    keySize: [8, 'u32'],
    valueSize: [12, 'u32'],
    maxEntries: [16, 'u32'],
    flags: [20, 'u32'],
    name: [24, 'name16'],
    extra: [80, 'u64'],
  },
} as const;

/** The arms of the union that the link types of this folder fill; which are valid depends on `type`. */
export const linkInfo = {
  size: 64,
  fields: {
    type: [0, 'u32'],
    id: [4, 'u32'],
    programId: [8, 'u32'],
    netfilterFamily: [16, 'u32'],
    netfilterHook: [20, 'u32'],
    netfilterPriority: [24, 's32'],
    netfilterFlags: [28, 'u32'],
    /** xdp and tcx. */
    ifindex: [16, 'u32'],
    tcxAttachType: [20, 'u32'],
    cgroupId: [16, 'u64'],
    cgroupAttachType: [24, 'u32'],
    netnsInode: [16, 'u32'],
    netnsAttachType: [20, 'u32'],
  },
} as const;

/** Reads the info struct of a map, program or link. `request` sets what the kernel reads in (buffer pointers). */
export function objectInfo<const L extends Layout>(
  fd: number,
  layout: L,
  what: string,
  request: StructInput<L> = {} as StructInput<L>,
): StructOutput<L> {
  const info = encodeStruct(layout, request);
  bpf('OBJ_GET_INFO_BY_FD', attr.info, { fd, length: info.length, info }, `reading the info of ${what}`);
  return decodeStruct(layout, info);
}

/** Ids of all objects of a kind, ascending. Needs CAP_SYS_ADMIN. */
export function listIds(kind: 'program' | 'map' | 'link'): number[] {
  const command = `${{ program: 'PROG', map: 'MAP', link: 'LINK' }[kind]}_GET_NEXT_ID` as BpfCommandName;
  const ids: number[] = [];
  const bytes = encodeStruct(attr.identifier, {});
  for (;;) {
    const result = tryBpf(BpfCommand[command], bytes);
    if (result === -Errno.ENOENT) return ids;
    if (result < 0) throw bpfError(command, -result, `listing ${kind}s`);
    const { nextId } = decodeStruct(attr.identifier, bytes);
    ids.push(nextId);
    writeStruct(attr.identifier, bytes, { id: nextId });
  }
}

/** A descriptor for the object with this id; `undefined` when there is none (any more). Needs CAP_SYS_ADMIN. */
export function openById(kind: 'program' | 'map' | 'link', id: number): Fd | undefined {
  const command = `${{ program: 'PROG', map: 'MAP', link: 'LINK' }[kind]}_GET_FD_BY_ID` as BpfCommandName;
  const result = tryBpf(BpfCommand[command], encodeStruct(attr.identifier, { id }));
  if (result === -Errno.ENOENT) return undefined;
  if (result < 0) throw bpfError(command, -result, `opening ${kind} ${id}`);
  return new Fd(result, `${kind} ${id}`);
}
