/** The netstack's links against this kernel's: one list of attempts, the same errno from both, in the same state. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { R0 } from '../../src/isa/index.ts';
import { errnoName, type Program } from '../../src/kernel/index.ts';
import { attr, BpfCommand, tryBpf } from '../../src/kernel/sys/bpf.ts';
import { Fd } from '../../src/kernel/sys/fd.ts';
import { encodeStruct } from '../../src/kernel/sys/struct.ts';
import {
  AttachType,
  attachNetfilter,
  ManualClock,
  type NetDevice,
  type NetfilterLink,
  NetstackError,
  NetworkNamespace,
  NF_ACCEPT,
  ProgramType,
  TcxHooks,
  type TcxLink,
  XdpHooks,
  type XdpLink,
} from '../../src/netstack/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withPair } from '../support/netns.ts';
import { loadProgram } from '../support/program.ts';

const RUNS = process.env.SLUICE_SOAK ? 5_000 : 60;

/** A random attempt, or the end of a link that was made before. */
type Step<T> = { readonly detach: number } | { readonly attach: T };

function steps<T>(attempt: fc.Arbitrary<T>): fc.Arbitrary<Step<T>[]> {
  return fc.array(
    fc.oneof(
      { weight: 5, arbitrary: attempt.map((attach) => ({ attach })) },
      { weight: 1, arbitrary: fc.nat(20).map((detach) => ({ detach })) },
    ),
    { maxLength: 14 },
  );
}

/** Makes links with a raw LINK_CREATE; result `ok` or the errno's name. */
class KernelLinks {
  readonly #host: Host;
  readonly #links: (Fd | undefined)[] = [];

  constructor(host: Host) {
    this.#host = host;
  }

  create(values: Parameters<typeof encodeStruct<typeof attr.linkCreate>>[1]): string {
    const result = this.#host.run(() =>
      tryBpf(BpfCommand.LINK_CREATE, encodeStruct(attr.linkCreate, values)),
    );
    this.#links.push(result < 0 ? undefined : new Fd(result, 'link'));
    return result < 0 ? errnoName(-result) : 'ok';
  }

  fd(index: number): number | undefined {
    return this.#links[index]?.number;
  }

  close(index: number): void {
    if (index >= this.#links.length) return;
    this.#links[index]?.close();
    this.#links[index] = undefined;
  }

  closeAll(): void {
    for (const index of this.#links.keys()) this.close(index);
  }
}

function outcome<T>(made: (T | undefined)[], attach: () => T): string {
  try {
    made.push(attach());
    return 'ok';
  } catch (error) {
    made.push(undefined);
    if (error instanceof NetstackError) return error.code;
    throw error;
  }
}

describeKernel('links against this kernel', () => {
  let accept: Program;
  let xdp: Program;
  let classifiers: Program[];
  beforeAll(() => {
    accept = loadProgram('BPF_PROG_TYPE_NETFILTER', (asm) => asm.mov(R0, 1).exit());
    xdp = loadProgram('BPF_PROG_TYPE_XDP', (asm) => asm.mov(R0, 2).exit());
    classifiers = Array.from({ length: 5 }, () =>
      loadProgram('BPF_PROG_TYPE_SCHED_CLS', (asm) => asm.mov(R0, -1).exit()),
    );
  });
  afterAll(() => {
    for (const program of [accept, xdp, ...(classifiers ?? [])]) program?.close();
  });

  test('netfilter', () =>
    withPair(({ a }) => {
      const attempt = fc.record({
        linkFlags: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.constantFrom(1, 0x80000000)),
        attachType: fc.oneof({ weight: 9, arbitrary: fc.constant(45) }, fc.constantFrom(36, 46)),
        wrongProgram: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
        pf: fc.oneof({ weight: 9, arbitrary: fc.constantFrom(2, 10) }, fc.constantFrom(0, 1, 3, 5, 7, 12)),
        hooknum: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 4 }) }, fc.constantFrom(5, 42)),
        priority: fc.oneof(
          { weight: 5, arbitrary: fc.integer({ min: 1, max: 3 }) },
          fc.constantFrom(-0x80000000, 0x7fffffff, -0x7fffffff, -400, -401, -399),
        ),
        flags: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 1 }) }, fc.constantFrom(2, 3)),
      });
      fc.assert(
        fc.property(steps(attempt), (list) => {
          const kernel = new KernelLinks(a);
          const net = new NetworkNamespace(1n, new ManualClock());
          const made: (NetfilterLink | undefined)[] = [];
          try {
            for (const step of list) {
              if ('detach' in step) {
                kernel.close(step.detach);
                made[step.detach]?.detach();
                continue;
              }
              const { linkFlags, attachType, wrongProgram, pf, hooknum, priority, flags } = step.attach;
              const live = kernel.create({
                programFd: (wrongProgram ? xdp : accept).fd.number,
                attachType,
                flags: linkFlags,
                netfilterFamily: pf,
                netfilterHook: hooknum,
                netfilterPriority: priority,
                netfilterFlags: flags,
              });
              const program = {
                id: 1,
                name: 'p',
                type: wrongProgram ? ProgramType.XDP : ProgramType.NETFILTER,
                run: () => NF_ACCEPT,
              };
              const twin = outcome(made, () =>
                attachNetfilter(net, program, { linkFlags, attachType, pf, hooknum, priority, flags }),
              );
              expect(twin, JSON.stringify(step.attach)).toBe(live);
            }
          } finally {
            kernel.closeAll();
          }
        }),
        { numRuns: RUNS },
      );
    }));

  test('tcx', () =>
    withPair(({ b }) => {
      const { index } = b.device('a');
      const device: NetDevice = { ifindex: index, name: 'a', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
      const attempt = fc.record({
        program: fc.nat(4),
        attachType: fc.constantFrom(AttachType.TCX_INGRESS, AttachType.TCX_EGRESS),
        flags: fc.oneof(
          { weight: 6, arbitrary: fc.constantFrom(0, 8, 16) },
          fc.constantFrom(24, 1, 64, 1 << 20, 8 | 64, 16 | (1 << 20)),
        ),
        relative: fc.option(fc.nat(6), { nil: undefined }),
        revision: fc.option(fc.nat(5), { nil: 0 }),
        ifindex: fc.oneof({ weight: 9, arbitrary: fc.constant(index) }, fc.constant(4095)),
      });
      fc.assert(
        fc.property(steps(attempt), (list) => {
          const kernel = new KernelLinks(b);
          const tcx = new TcxHooks((ifindex) => (ifindex === index ? device : undefined));
          const programs = classifiers.map((_, id) => ({ id, name: `p${id}`, type: ProgramType.SCHED_CLS }));
          const made: (TcxLink | undefined)[] = [];
          try {
            for (const step of list) {
              if ('detach' in step) {
                kernel.close(step.detach);
                made[step.detach]?.detach();
                continue;
              }
              const { program, attachType, flags, relative, revision, ifindex } = step.attach;
              const relativeFd = relative === undefined ? undefined : kernel.fd(relative);
              const relativeLink = relative === undefined ? undefined : made[relative];
              expect(relativeFd === undefined).toBe(relativeLink === undefined || !relativeLink.attached);
              const live = kernel.create({
                programFd: classifiers[program]!.fd.number,
                target: ifindex,
                attachType,
                // BPF_F_LINK says that the reference is a link.
                flags: flags | (relativeFd === undefined ? 0 : 1 << 13),
                relative: relativeFd ?? 0,
                expectedRevision: BigInt(revision),
              });
              const twin = outcome(made, () =>
                tcx.attach(programs[program]!, {
                  ifindex,
                  attachType,
                  flags,
                  ...(relativeFd === undefined ? {} : { relative: relativeLink! }),
                  expectedRevision: BigInt(revision),
                }),
              );
              expect(twin, JSON.stringify(step.attach)).toBe(live);
            }
          } finally {
            kernel.closeAll();
          }
        }),
        { numRuns: RUNS },
      );
    }));

  test('xdp', () =>
    withPair(({ b }) => {
      const { index } = b.device('a');
      const device: NetDevice = { ifindex: index, name: 'a', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
      const attempt = fc.record({
        flags: fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 2, 4) }, fc.integer({ min: 1, max: 31 })),
        ifindex: fc.oneof({ weight: 9, arbitrary: fc.constant(index) }, fc.constant(4095)),
        wrongProgram: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
      });
      fc.assert(
        fc.property(steps(attempt), (list) => {
          const kernel = new KernelLinks(b);
          const hooks = new XdpHooks((ifindex) => (ifindex === index ? device : undefined));
          const made: (XdpLink | undefined)[] = [];
          try {
            for (const step of list) {
              if ('detach' in step) {
                kernel.close(step.detach);
                made[step.detach]?.detach();
                continue;
              }
              const { flags, ifindex, wrongProgram } = step.attach;
              const live = kernel.create({
                programFd: (wrongProgram ? accept : xdp).fd.number,
                target: ifindex,
                attachType: AttachType.XDP,
                flags,
              });
              const type = wrongProgram ? ProgramType.NETFILTER : ProgramType.XDP;
              const twin = outcome(made, () => hooks.attach({ id: 1, name: 'p', type }, { ifindex, flags }));
              expect(twin, JSON.stringify(step.attach)).toBe(live);
            }
          } finally {
            kernel.closeAll();
          }
        }),
        { numRuns: RUNS },
      );
    }));
});
