/**
 * Running a loaded program on given bytes: bpf(2) PROG_TEST_RUN, net/bpf/test_run.c.
 *
 * What the kernel makes of the bytes depends on the type: XDP, tc and cgroup programs get an Ethernet frame; netfilter
 * programs an IP packet (at LOCAL_OUT or without a context) or a frame (at the other hooks), with no input device, no
 * conntrack state and no way to see the packet back.
 */
import { attr, BpfCommand, bpfError, tryBpf } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import type { Program } from './program.ts';

export const TestRunFlag = {
  /** Frames of the kernel's own that go where the program sends them; neither they nor the context come back. */
  BPF_F_TEST_XDP_LIVE_FRAMES: 2,
} as const;

export interface TestRunOptions {
  readonly data?: Uint8Array;
  /** The program type's context, see {@link netfilterContext} and {@link xdpContext}. */
  readonly context?: Uint8Array;
  /** Times to run; the packet of a later run is what the run before left. */
  readonly repeat?: number;
  /** Room for the packet as the program left it; default: the input and 256 bytes more. 0: not wanted. */
  readonly dataRoom?: number;
  readonly flags?: number;
}

export interface TestRunResult {
  /** The program's return value, unsigned 32 bit. */
  readonly returnValue: number;
  /** The packet afterwards. Empty for netfilter programs, which cannot write. */
  readonly data: Uint8Array;
  /** The context afterwards; empty without a context given. */
  readonly context: Uint8Array;
  /** Mean of one run in whole nanoseconds, when repeated. */
  readonly durationNs: number;
}

/** @throws {SyscallError} EINVAL and others when type, data and context do not fit */
export function testRun(program: Program, options: TestRunOptions): TestRunResult {
  const data = options.data ?? new Uint8Array(0);
  const context = options.context ?? new Uint8Array(0);
  const dataOut = new Uint8Array(options.dataRoom ?? (data.length === 0 ? 0 : data.length + 256));
  const live = ((options.flags ?? 0) & TestRunFlag.BPF_F_TEST_XDP_LIVE_FRAMES) !== 0;
  const contextOut = new Uint8Array(live ? 0 : context.length);
  const request = {
    programFd: program.fd.number,
    dataIn: data,
    dataSizeIn: data.length,
    dataOut,
    dataSizeOut: dataOut.length,
    contextIn: context,
    contextSizeIn: context.length,
    contextOut,
    contextSizeOut: contextOut.length,
    repeat: options.repeat ?? 1,
    flags: options.flags,
  };
  const bytes = encodeStruct(attr.testRun, request);
  const result = tryBpf(BpfCommand.PROG_TEST_RUN, bytes, request);
  if (result < 0) {
    const hint = result === -Errno.ENOSPC ? 'the packet grew: give more dataRoom' : undefined;
    throw bpfError('PROG_TEST_RUN', -result, `running program "${program.name}"`, hint);
  }
  const after = decodeStruct(attr.testRun, bytes);
  return {
    returnValue: after.returnValue,
    data: dataOut.subarray(0, after.dataSizeOut),
    context: contextOut.subarray(0, after.contextSizeOut),
    durationNs: after.durationNs,
  };
}

/** struct nf_hook_state as a test run takes it: all pointers zero. */
const hookState = { size: 48, fields: { hook: [0, 'u8'], family: [1, 'u8'] } } as const;

/** Context of a netfilter test run. `hook` 0..4; any hook but LOCAL_OUT (3) makes the data an Ethernet frame. */
export function netfilterContext(family: 'ipv4' | 'ipv6', hook: number): Uint8Array {
  return encodeStruct(hookState, { hook, family: family === 'ipv4' ? 2 : 10 });
}

const xdpMd = {
  size: 24,
  fields: {
    data: [0, 'u32'],
    dataEnd: [4, 'u32'],
    dataMeta: [8, 'u32'],
    ingressIfindex: [12, 'u32'],
  },
} as const;

/** struct xdp_md for a frame of `length` bytes that came in at `ifindex`, receive queue 0. */
export function xdpContext(length: number, ifindex: number): Uint8Array {
  return encodeStruct(xdpMd, { dataEnd: length, ingressIfindex: ifindex });
}

/** struct __sk_buff: the fields that a test run lets the caller set. */
const skBuff = {
  size: 192,
  fields: {
    length: [0, 'u32'],
    mark: [8, 'u32'],
    priority: [32, 'u32'],
    ingressIfindex: [36, 'u32'],
    ifindex: [40, 'u32'],
  },
} as const;

export interface SkBuffFields {
  readonly mark?: number;
  readonly priority?: number;
  readonly ingressIfindex?: number;
  /** Device that the packet is on; must exist in the caller's namespace. */
  readonly ifindex?: number;
}

/** Context of a tc or cgroup_skb test run. */
export function skBuffContext(fields: SkBuffFields): Uint8Array {
  return encodeStruct(skBuff, fields);
}

/** Reads what a tc or cgroup_skb program left in its context. */
export function readSkBuffContext(context: Uint8Array): Required<SkBuffFields> {
  const { mark, priority, ingressIfindex, ifindex } = decodeStruct(skBuff, context);
  return { mark, priority, ingressIfindex, ifindex };
}

/** struct bpf_sk_lookup as a test run takes it and gives it back. */
const skLookup = {
  size: 72,
  fields: {
    cookie: [0, 'u64'],
    family: [8, 'u32'],
    protocol: [12, 'u32'],
    remotePort: [36, 'u16be'],
    localPort: [60, 'u32'],
  },
} as const;

/** A look-up to be tried. Addresses 4 or 16 bytes in network order, both alike; a test run knows no ingress device. */
export interface SkLookupFields {
  readonly protocol: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  readonly localAddress: Uint8Array;
  readonly localPort: number;
}

/** Context of an sk_lookup test run. */
export function skLookupContext(fields: SkLookupFields): Uint8Array {
  const six = fields.localAddress.length === 16;
  const { protocol, remotePort, localPort } = fields;
  const context = encodeStruct(skLookup, { family: six ? 10 : 2, protocol, remotePort, localPort });
  context.set(fields.remoteAddress, six ? 20 : 16);
  context.set(fields.localAddress, six ? 44 : 40);
  return context;
}

/** Cookie of the socket that the programs selected; 0n for none. */
export function selectedSocketCookie(context: Uint8Array): bigint {
  return decodeStruct(skLookup, context).cookie;
}
