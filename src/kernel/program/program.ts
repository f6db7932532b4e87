/** Loading programs: bpf(2) PROG_LOAD, kernel/bpf/syscall.c and verifier.c. */
import { ATTACH_TYPES, type AttachType, nameOf, PROGRAM_TYPES, type ProgramType } from '../../isa/index.ts';

import type { BpfMap } from '../map/map.ts';
import { checkName } from '../map/map.ts';
import { attr, BpfCommand, bpf, bpfError, tryBpf } from '../sys/bpf.ts';
import { Errno, errnoName, errnoText } from '../sys/errno.ts';
import { KernelArgumentError, KernelError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { objectInfo, openById, programInfo } from '../sys/info.ts';
import { cString, cStringBytes, decodeStruct, encodeStruct } from '../sys/struct.ts';
import { readVerifierLog } from './verifierlog.ts';

/** The package is MIT; kernel functions (kfuncs) are open to GPL-compatible programs only. */
const LICENSE = 'Dual MIT/GPL';

const FIRST_LOG = 1 << 20;
const LARGEST_LOG = 1 << 26;
const SIGNAL_RETRIES = 5;

export interface ProgramSpec {
  readonly type: ProgramType;
  /** At most 15 bytes of `[A-Za-z0-9_.]`. */
  readonly name: string;
  /** Linked instructions, 8 bytes each, little endian. */
  readonly instructions: Uint8Array;
  /** Types with one attach point only (netfilter, sk_lookup) insist on it. */
  readonly expectedAttachType?: AttachType;
  /** Descriptors for `BPF_PSEUDO_MAP_IDX` references and module kfuncs. */
  readonly fdArray?: readonly number[];
  /** BPF_F_* of PROG_LOAD (`prog_flags`). */
  readonly flags?: number;
  /** Device to bind to; only for programs that are offloaded or use device-bound metadata. */
  readonly ifindex?: number;
}

/** A program type by its kernel name; `BPF_PROG_TYPE_<number>` for one that is newer than this package. */
export type ProgramTypeName = ProgramType | `BPF_PROG_TYPE_${number}`;

export interface ProgramDescription {
  readonly id: number;
  readonly type: ProgramTypeName;
  readonly name: string;
  /** Sixteen hex digits. SHA-1 of the instructions before Linux 6.18, SHA-256 since: never compare across kernels. */
  readonly tag: string;
  /** Bytes of the translated (verified, rewritten) and of the machine code; 0 where the caller may not see them. */
  readonly xlatedLength: number;
  readonly jitedLength: number;
  readonly verifiedInstructions: number;
  readonly mapIds: readonly number[];
  /** Since boot, CLOCK_BOOTTIME. */
  readonly loadTimeNs: bigint;
  readonly createdByUid: number;
  /** Only counted while kernel.bpf_stats_enabled. */
  readonly runCount: bigint;
  readonly runTimeNs: bigint;
}

/** The kernel refused a program. `PROGRAM_REJECTED`; `instruction` leads to the rule through the compiler's map. */
export class VerifierError extends KernelError {
  /** The whole log of the last attempt; empty when the kernel refused before verification. */
  readonly log: string;
  /** Slot of the instruction in question. */
  readonly instruction: number | undefined;
  /** The complaint alone, in the kernel's words. */
  readonly summary: string;
  readonly errno: number;
  constructor(name: string, errno: number, log: string) {
    const verdict = readVerifierLog(log);
    const reason = verdict.summary === '' ? `${errnoText(errno)} (${errnoName(errno)})` : verdict.summary;
    const place =
      verdict.instruction === undefined
        ? ''
        : ` at instruction ${verdict.instruction}${verdict.text === undefined ? '' : ` (${verdict.text})`}`;
    super(
      'PROGRAM_REJECTED',
      `the kernel refused program "${name}"${place}: ${reason}`,
      rejectionHint(errno, log),
    );
    this.log = log;
    this.instruction = verdict.instruction;
    this.summary = reason;
    this.errno = errno;
  }
}

function rejectionHint(errno: number, log: string): string | undefined {
  if (log === '' && errno === Errno.EINVAL) {
    return 'refused before verification: program type, expected attach type or flags do not fit each other or this kernel';
  }
  if (log === '' && errno === Errno.E2BIG)
    return 'the program has more instructions than the kernel takes (1,000,000)';
  return undefined;
}

export class Program {
  readonly fd: Fd;
  readonly type: ProgramTypeName;
  readonly name: string;

  private constructor(fd: Fd, type: ProgramTypeName, name: string) {
    this.fd = fd;
    this.type = type;
    this.name = name;
  }

  /**
   * Loads a program. The first attempt asks for no log (it costs time); a refusal is repeated with one.
   * @throws {VerifierError} when the kernel refuses the program
   * @throws {SyscallError} EPERM without CAP_BPF and the capability of the program type, ENOMEM
   */
  static load(spec: ProgramSpec): Program {
    checkName(spec.name);
    if (spec.instructions.length === 0 || spec.instructions.length % 8 !== 0) {
      throw new KernelArgumentError(
        `program "${spec.name}": ${spec.instructions.length} bytes are no instructions`,
      );
    }
    const quiet = tryLoad(spec, 0);
    const attempt = quiet.result >= 0 || quiet.result === -Errno.EPERM ? quiet : loadForLog(spec);
    if (attempt.result >= 0)
      return new Program(new Fd(attempt.result, `program "${spec.name}"`), spec.type, spec.name);
    if (attempt.result === -Errno.EPERM && attempt.log === '') {
      throw bpfError('PROG_LOAD', Errno.EPERM, `loading program "${spec.name}"`);
    }
    throw new VerifierError(spec.name, -attempt.result, attempt.log);
  }

  /** Takes ownership of a program descriptor. */
  static fromFd(fd: Fd): Program {
    const { type, name } = objectInfo(fd.number, programInfo, fd.label);
    return new Program(fd, typeName(type), name);
  }

  /** The program with this id, `undefined` when there is none. */
  static byId(id: number): Program | undefined {
    const fd = openById('program', id);
    return fd === undefined ? undefined : closeOnError(fd, () => Program.fromFd(fd));
  }

  get id(): number {
    return objectInfo(this.fd.number, programInfo, this.fd.label).id;
  }

  describe(): ProgramDescription {
    const { mapCount } = objectInfo(this.fd.number, programInfo, this.fd.label);
    const ids = new Uint32Array(mapCount);
    const request = mapCount === 0 ? {} : { mapCount, mapIds: ids };
    const info = objectInfo(this.fd.number, programInfo, this.fd.label, request);
    // The tag is bytes; read back as a little-endian word its hex digits come out last byte first.
    const tag = new Uint8Array(BigUint64Array.of(info.tag).buffer);
    return {
      id: info.id,
      type: typeName(info.type),
      name: info.name,
      tag: [...tag].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
      xlatedLength: info.xlatedLength,
      jitedLength: info.jitedLength,
      verifiedInstructions: info.verifiedInstructions,
      mapIds: [...ids],
      loadTimeNs: info.loadTimeNs,
      createdByUid: info.createdByUid,
      runCount: info.runCount,
      runTimeNs: info.runTimeNs,
    };
  }

  /** The instructions as the kernel runs them, after verification and rewriting; empty where they are hidden. */
  translated(): Uint8Array {
    const { xlatedLength } = objectInfo(this.fd.number, programInfo, this.fd.label);
    const code = new Uint8Array(xlatedLength);
    if (xlatedLength === 0) return code;
    const request = { xlatedLength, xlatedInstructions: code };
    const after = objectInfo(this.fd.number, programInfo, this.fd.label, request);
    return code.subarray(0, after.xlatedLength);
  }

  /** Ties the life of `map` to the program's, for maps that it does not refer to itself (metadata). */
  bindMap(map: BpfMap): void {
    bpf(
      'PROG_BIND_MAP',
      attr.bindMap,
      { programFd: this.fd.number, mapFd: map.fd.number },
      `binding ${map.fd.label} to ${this.fd.label}`,
    );
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function typeName(type: number): ProgramTypeName {
  return nameOf(PROGRAM_TYPES, type) ?? `BPF_PROG_TYPE_${type}`;
}

interface Attempt {
  readonly result: number;
  readonly log: string;
  /** What the whole log would have taken (Linux 6.4; else 0). */
  readonly logTrueSize: number;
}

function tryLoad(spec: ProgramSpec, logSize: number, logLevel = 1): Attempt {
  const logBuffer = new Uint8Array(logSize);
  const fdArray = Int32Array.from(spec.fdArray ?? []);
  const request = {
    programType: PROGRAM_TYPES[spec.type],
    instructionCount: spec.instructions.length / 8,
    instructions: spec.instructions,
    license: cStringBytes(LICENSE),
    programName: spec.name,
    programFlags: spec.flags,
    ifindex: spec.ifindex,
    expectedAttachType: spec.expectedAttachType && ATTACH_TYPES[spec.expectedAttachType],
    fdArray: fdArray.length === 0 ? undefined : fdArray,
    ...(logSize === 0 ? {} : { logLevel, logSize, logBuffer }),
  };
  const bytes = encodeStruct(attr.programLoad, request);
  let result = tryBpf(BpfCommand.PROG_LOAD, bytes, request);
  // The verifier gives up with EAGAIN when a signal arrives; a profiler's would never let a long program through.
  for (let again = 0; result === -Errno.EAGAIN && again < SIGNAL_RETRIES; again++) {
    result = tryBpf(BpfCommand.PROG_LOAD, bytes, request);
  }
  return { result, log: cString(logBuffer), logTrueSize: decodeStruct(attr.programLoad, bytes).logTrueSize };
}

/**
 * What the verifier has to say of a program, accepted or not; the program is not kept.
 * `level` 1: the refused path, of accepted programs the statistics; 2: every path; 4: statistics only.
 */
export function verifierLog(
  spec: ProgramSpec,
  level: 1 | 2 | 4,
): { readonly accepted: boolean; readonly log: string } {
  const { result, log } = loadForLog(spec, level);
  if (result >= 0) new Fd(result, 'a program to be forgotten').close();
  else if (log === '') throw new VerifierError(spec.name, -result, log);
  return { accepted: result >= 0, log };
}

/** Loads with a log; ENOSPC means that the log did not fit, which would hide the verdict, so the buffer grows. */
function loadForLog(spec: ProgramSpec, level = 1): Attempt {
  let size = FIRST_LOG;
  for (;;) {
    const attempt = tryLoad(spec, size, level);
    if (attempt.result !== -Errno.ENOSPC || size >= LARGEST_LOG) return attempt;
    size = Math.min(LARGEST_LOG, Math.max(size * 8, attempt.logTrueSize));
  }
}
