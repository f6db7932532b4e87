/** bpf(2): commands, flags and attribute layouts. Source of truth: include/uapi/linux/bpf.h. */
import { errnoName } from './errno.ts';
import { SyscallError } from './error.ts';
import { keepAlive } from './keepalive.ts';
import { encodeStruct, type Layout, type StructInput } from './struct.ts';
import { trySyscall } from './syscall.ts';

/** `enum bpf_cmd`. */
export const BpfCommand = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_TEST_RUN: 10,
  PROG_GET_NEXT_ID: 11,
  MAP_GET_NEXT_ID: 12,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  BTF_LOAD: 18,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_FREEZE: 22,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_GET_NEXT_ID: 31,
  LINK_DETACH: 34,
  PROG_BIND_MAP: 35,
} as const;

export type BpfCommandName = keyof typeof BpfCommand;

/** Flags of MAP_CREATE (`map_flags`). */
export const MapFlag = {
  BPF_F_NO_PREALLOC: 0x1,
  BPF_F_NUMA_NODE: 0x4,
  BPF_F_RDONLY: 0x8,
  BPF_F_WRONLY: 0x10,
  BPF_F_RDONLY_PROG: 0x80,
  BPF_F_WRONLY_PROG: 0x100,
  BPF_F_MMAPABLE: 0x400,
  BPF_F_INNER_MAP: 0x1000,
} as const;

/** Flags of MAP_UPDATE_ELEM. */
export const UpdateFlag = { BPF_ANY: 0, BPF_NOEXIST: 1, BPF_EXIST: 2, BPF_F_LOCK: 4 } as const;

export const attr = {
  mapCreate: {
    size: 80,
    fields: {
      mapType: [0, 'u32'],
      keySize: [4, 'u32'],
      valueSize: [8, 'u32'],
      maxEntries: [12, 'u32'],
      mapFlags: [16, 'u32'],
      innerMapFd: [20, 'u32'],
      numaNode: [24, 'u32'],
      mapName: [28, 'name16'],
      mapExtra: [64, 'u64'],
    },
  },
  element: {
    size: 32,
    fields: { mapFd: [0, 'u32'], key: [8, 'ptr'], value: [16, 'ptr'], flags: [24, 'u64'] },
  },
  freeze: { size: 4, fields: { mapFd: [0, 'u32'] } },
  batch: {
    size: 56,
    fields: {
      inBatch: [0, 'ptr'],
      outBatch: [8, 'ptr'],
      keys: [16, 'ptr'],
      values: [24, 'ptr'],
      count: [32, 'u32'],
      mapFd: [36, 'u32'],
      elementFlags: [40, 'u64'],
      flags: [48, 'u64'],
    },
  },
  programLoad: {
    size: 152,
    fields: {
      programType: [0, 'u32'],
      instructionCount: [4, 'u32'],
      instructions: [8, 'ptr'],
      license: [16, 'ptr'],
      logLevel: [24, 'u32'],
      logSize: [28, 'u32'],
      logBuffer: [32, 'ptr'],
      kernelVersion: [40, 'u32'],
      programFlags: [44, 'u32'],
      programName: [48, 'name16'],
      ifindex: [64, 'u32'],
      expectedAttachType: [68, 'u32'],
      fdArray: [120, 'ptr'],
      logTrueSize: [140, 'u32'],
      fdArrayCount: [148, 'u32'],
    },
  },
  object: {
    size: 24,
    fields: { path: [0, 'ptr'], fd: [8, 'u32'], fileFlags: [12, 'u32'], pathFd: [16, 's32'] },
  },
  identifier: { size: 12, fields: { id: [0, 'u32'], nextId: [4, 'u32'], openFlags: [8, 'u32'] } },
  info: { size: 16, fields: { fd: [0, 'u32'], length: [4, 'u32'], info: [8, 'ptr'] } },
  testRun: {
    size: 80,
    fields: {
      programFd: [0, 'u32'],
      returnValue: [4, 'u32'],
      dataSizeIn: [8, 'u32'],
      dataSizeOut: [12, 'u32'],
      dataIn: [16, 'ptr'],
      dataOut: [24, 'ptr'],
      repeat: [32, 'u32'],
      durationNs: [36, 'u32'],
      contextSizeIn: [40, 'u32'],
      contextSizeOut: [44, 'u32'],
      contextIn: [48, 'ptr'],
      contextOut: [56, 'ptr'],
      flags: [64, 'u32'],
      cpu: [68, 'u32'],
      batchSize: [72, 'u32'],
    },
  },
  programQuery: {
    size: 64,
    fields: {
      target: [0, 'u32'],
      attachType: [4, 'u32'],
      queryFlags: [8, 'u32'],
      attachFlags: [12, 'u32'],
      programIds: [16, 'ptr'],
      count: [24, 'u32'],
      programAttachFlags: [32, 'ptr'],
      linkIds: [40, 'ptr'],
      linkAttachFlags: [48, 'ptr'],
      revision: [56, 'u64'],
    },
  },
  /** The `netfilter` arm and the arm shared by tcx, netkit and cgroup (`relativeFd`, `expectedRevision`) overlap. */
  linkCreate: {
    size: 48,
    fields: {
      programFd: [0, 'u32'],
      target: [4, 'u32'],
      attachType: [8, 'u32'],
      flags: [12, 'u32'],
      netfilterFamily: [16, 'u32'],
      netfilterHook: [20, 'u32'],
      netfilterPriority: [24, 's32'],
      netfilterFlags: [28, 'u32'],
      relative: [16, 'u32'],
      expectedRevision: [24, 'u64'],
    },
  },
  linkUpdate: {
    size: 16,
    fields: {
      linkFd: [0, 'u32'],
      newProgramFd: [4, 'u32'],
      flags: [8, 'u32'],
      oldProgramFd: [12, 'u32'],
    },
  },
  linkDetach: { size: 4, fields: { linkFd: [0, 'u32'] } },
  bindMap: { size: 12, fields: { programFd: [0, 'u32'], mapFd: [4, 'u32'], flags: [8, 'u32'] } },
} as const;

/** Calls bpf(2) with an encoded attribute; returns the result or minus errno. `keep` holds what `bytes` points to. */
export function tryBpf(command: number, bytes: Uint8Array, keep?: unknown): number {
  const result = trySyscall('bpf', command, bytes, bytes.length);
  keepAlive(keep);
  return result;
}

/**
 * Calls bpf(2). Returns its result and the attribute bytes, which the kernel may have written.
 * @throws {SyscallError} saying `what` was being done
 */
export function bpf<const L extends Layout>(
  command: BpfCommandName,
  layout: L,
  values: StructInput<L>,
  what?: string,
): { readonly result: number; readonly bytes: Uint8Array } {
  const bytes = encodeStruct(layout, values);
  const result = tryBpf(BpfCommand[command], bytes, values);
  if (result < 0) throw bpfError(command, -result, what);
  return { result, bytes };
}

/** The error of a failed bpf(2) command. */
export function bpfError(command: BpfCommandName, errno: number, what?: string, hint?: string): SyscallError {
  const call = `bpf(${command})`;
  return new SyscallError(call, errno, what ?? call, hint ?? hintOf(errno));
}

function hintOf(errno: number): string | undefined {
  if (errnoName(errno) === 'EPERM') {
    return 'run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; unprivileged bpf is off on most systems';
  }
  if (errnoName(errno) === 'ENOSYS') return 'this kernel is built without CONFIG_BPF_SYSCALL';
  return undefined;
}
