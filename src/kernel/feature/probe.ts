/**
 * What this kernel and these privileges allow, found by trying: data for `doctor`. Everything that has to be attached is
 * attached in a network namespace of its own that ends with the probe; nothing of the machine is touched.
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { Assembler, type ProgramType, R0 } from '../../isa/index.ts';
import { driver } from '../ffi/index.ts';
import { attachNetfilter } from '../link/netfilter.ts';
import { attachSkLookup } from '../link/netns.ts';
import { attachTcx } from '../link/tcx.ts';
import { attachXdp } from '../link/xdp.ts';
import { Arena } from '../map/arena.ts';
import { BpfMap } from '../map/map.ts';
import { createVeth, findDevice } from '../netlink/device.ts';
import { createNetns, withNetns } from '../netns/netns.ts';
import { disableConntrack, enableConntrack } from '../nft/conntrack.ts';
import { findBpffs, findCgroup2 } from '../pin/mount.ts';
import { kernelBtf, kernelTypes } from '../program/kerneltypes.ts';
import { Program } from '../program/program.ts';
import { linkProgram } from '../program/resolver.ts';
import { KernelError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { requireKernel } from './require.ts';

export type FeatureName =
  | 'linux'
  | 'ffi'
  | 'bpf'
  | 'btf'
  | 'jit'
  | 'arena'
  | 'ring-buffer'
  | 'netfilter'
  | 'defragmentation'
  | 'xdp'
  | 'tcx'
  | 'sk-lookup'
  | 'cgroup'
  | 'bpffs'
  | 'conntrack'
  | 'kfunc-dynptr'
  | 'kfunc-xdp-conntrack'
  | 'kfunc-tc-conntrack'
  | 'network-namespaces';

export interface Feature {
  readonly name: FeatureName;
  readonly available: boolean;
  /** What was found: a version, a path; or why not. */
  readonly detail: string;
  /** The way out, when it is missing. */
  readonly hint?: string;
}

/** Facts that decide nothing by themselves. */
export interface KernelFacts {
  readonly release: string;
  /** `net.core.bpf_jit_enable`: 0 off, 1 on, 2 debugging. */
  readonly jit: number | undefined;
  /** `kernel.unprivileged_bpf_disabled`: 0 open, 1 closed for good, 2 closed. */
  readonly unprivilegedBpfDisabled: number | undefined;
  /** `none`, `integrity` or `confidentiality`; `confidentiality` forbids programs to read kernel memory. */
  readonly lockdown: string;
  /** Effective capabilities that matter here. */
  readonly capabilities: readonly string[];
  readonly missingCapabilities: readonly string[];
}

export interface KernelReport {
  readonly facts: KernelFacts;
  readonly features: readonly Feature[];
}

/** Bit numbers of include/uapi/linux/capability.h: what loading, attaching, entering namespaces and capturing take. */
const CAPABILITIES = {
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function readNumber(path: string): number | undefined {
  const text = readText(path);
  return text === undefined ? undefined : Number(text);
}

/** Reads facts only; makes no system call beyond reading files. */
export function kernelFacts(): KernelFacts {
  const status = readText('/proc/self/status') ?? '';
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const names = Object.keys(CAPABILITIES) as (keyof typeof CAPABILITIES)[];
  const has = (name: keyof typeof CAPABILITIES): boolean =>
    ((effective >> BigInt(CAPABILITIES[name])) & 1n) === 1n;
  const lockdown = readText('/sys/kernel/security/lockdown');
  return {
    release: release(),
    jit: readNumber('/proc/sys/net/core/bpf_jit_enable'),
    unprivilegedBpfDisabled: readNumber('/proc/sys/kernel/unprivileged_bpf_disabled'),
    lockdown: /\[(\w+)\]/.exec(lockdown ?? '')?.[1] ?? 'none',
    capabilities: names.filter(has),
    missingCapabilities: names.filter((name) => !has(name)),
  };
}

/** Tries one thing: what it returns is the detail, what it throws the reason. */
function probe(name: FeatureName, hint: string, attempt: () => string): Feature {
  try {
    return { name, available: true, detail: attempt() };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    const own = error instanceof KernelError ? error.hint : undefined;
    return { name, available: false, detail, hint: own ?? hint };
  }
}

/** Runs `use` with something that is closed afterwards. */
function closing<T extends { close(): void }, R>(thing: T, use: (thing: T) => R): R {
  try {
    return use(thing);
  } finally {
    thing.close();
  }
}

/** A program that says `verdict`. */
function verdictProgram(type: ProgramType, verdict: number): Program {
  const asm = new Assembler();
  asm.mov(R0, verdict).exit();
  const attachType =
    type === 'BPF_PROG_TYPE_NETFILTER'
      ? ({ expectedAttachType: 'BPF_NETFILTER' } as const)
      : type === 'BPF_PROG_TYPE_SK_LOOKUP'
        ? ({ expectedAttachType: 'BPF_SK_LOOKUP' } as const)
        : {};
  return Program.load({
    type,
    name: 'slc_probe',
    instructions: linkProgram(asm.finish(), {}),
    ...attachType,
  });
}

function requireKfunc(name: string): string {
  const id = kernelTypes().kfunc(name);
  if (id === undefined) throw new KernelError('KERNEL_NO_KFUNC', `this kernel has no function ${name}`);
  return `${name}, BTF id ${id}`;
}

/** Probes everything. Takes some tens of milliseconds and leaves nothing behind. */
export function probeKernel(): KernelReport {
  const facts = kernelFacts();
  const features: Feature[] = [
    probe('linux', 'use Linux 6.9 or later', () => {
      requireKernel();
      return release();
    }),
    probe('ffi', 'npm install koffi', () => driver().name),
    probe('bpf', 'run as root, or with CAP_BPF and CAP_NET_ADMIN', () =>
      closing(verdictProgram('BPF_PROG_TYPE_XDP', 2), () => 'programs can be loaded'),
    ),
    probe('btf', 'use a kernel built with CONFIG_DEBUG_INFO_BTF', () => `${kernelBtf().endId} types`),
    probe('jit', 'sysctl net.core.bpf_jit_enable=1', () => {
      if (facts.jit === undefined) return 'always on';
      if (facts.jit === 0)
        throw new KernelError(
          'KERNEL_NO_JIT',
          'the JIT compiler is switched off',
          'sysctl net.core.bpf_jit_enable=1',
        );
      return 'on';
    }),
    probe('arena', 'use Linux 6.9 or later', () =>
      closing(Arena.create({ name: 'slc_probe', pages: 1 }), () => 'one page made'),
    ),
    probe('ring-buffer', 'use Linux 5.8 or later', () =>
      closing(
        BpfMap.create({
          type: 'BPF_MAP_TYPE_RINGBUF',
          name: 'slc_probe',
          keySize: 0,
          valueSize: 0,
          maxEntries: 65536,
        }),
        () => 'made',
      ),
    ),
    probe('kfunc-dynptr', 'use Linux 6.4 or later', () => requireKfunc('bpf_dynptr_from_skb')),
    probe('kfunc-xdp-conntrack', 'build the kernel with NF_CONNTRACK=y', () =>
      requireKfunc('bpf_xdp_ct_lookup'),
    ),
    probe('kfunc-tc-conntrack', 'build the kernel with NF_CONNTRACK=y', () =>
      requireKfunc('bpf_skb_ct_lookup'),
    ),
    probe('cgroup', 'mount it: mount -t cgroup2 none /sys/fs/cgroup', () => {
      const path = findCgroup2();
      if (path === undefined) throw new KernelError('CGROUP2_MISSING', 'no cgroup v2 hierarchy is mounted');
      return path;
    }),
    probe('bpffs', 'mount it: mount -t bpf bpf /sys/fs/bpf', () => {
      const path = findBpffs();
      if (path === undefined)
        throw new KernelError('BPFFS_MISSING', 'no bpffs is mounted (it is mounted when needed)');
      return path;
    }),
  ];
  return { facts, features: [...features, ...probeAttachments()] };
}

function probeAttachments(): Feature[] {
  let netns: Fd;
  try {
    netns = createNetns();
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return [
      { name: 'network-namespaces', available: false, detail, hint: 'run as root, or with CAP_SYS_ADMIN' },
    ];
  }
  return closing(netns, () => [
    { name: 'network-namespaces', available: true, detail: 'made, entered and left' },
    ...withNetns(netns, () => inside(netns)),
  ]);
}

/** The attach points, in the scratch namespace. */
function inside(netns: Fd): Feature[] {
  const netfilter = (defragment: boolean): string =>
    closing(verdictProgram('BPF_PROG_TYPE_NETFILTER', 1), (program) => {
      for (const family of ['ipv4', 'ipv6'] as const) {
        attachNetfilter(program, { family, hook: 1, priority: 1, defragment }).close();
      }
      return 'IPv4 and IPv6';
    });
  return [
    probe('netfilter', 'use Linux 6.4 or later with CONFIG_NETFILTER_BPF_LINK', () => netfilter(false)),
    probe('defragmentation', 'use Linux 6.6 or later with NF_DEFRAG_IPV4 and NF_DEFRAG_IPV6', () =>
      netfilter(true),
    ),
    probe('xdp', 'use Linux 5.9 or later', () =>
      closing(verdictProgram('BPF_PROG_TYPE_XDP', 2), (program) => {
        createVeth({ name: 'slc0' }, { name: 'slc1' });
        const ifindex = findDevice('slc0')!.index;
        attachXdp(program, { ifindex, mode: 'native' }).close();
        attachXdp(program, { ifindex, mode: 'generic' }).close();
        return 'native and generic';
      }),
    ),
    probe('tcx', 'use Linux 6.6 or later', () =>
      closing(verdictProgram('BPF_PROG_TYPE_SCHED_CLS', 0), (program) => {
        for (const direction of ['ingress', 'egress'] as const)
          attachTcx(program, { ifindex: 1, direction }).close();
        return 'ingress and egress';
      }),
    ),
    probe('sk-lookup', 'use Linux 5.9 or later', () =>
      closing(verdictProgram('BPF_PROG_TYPE_SK_LOOKUP', 1), (program) => {
        attachSkLookup(program, netns.number).close();
        return 'attached';
      }),
    ),
    probe(
      'conntrack',
      'build the kernel with NF_CONNTRACK and NF_TABLES, or load nf_conntrack and nft_ct',
      () => {
        enableConntrack('slc_probe');
        disableConntrack('slc_probe');
        return 'switched on and off through nf_tables';
      },
    ),
  ];
}
