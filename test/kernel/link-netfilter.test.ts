/** Netfilter links: what net/netfilter/nf_bpf_link.c accepts and refuses, with which errno, and what packets see. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { R0, R1, R2 } from '../../src/isa/index.ts';
import {
  attachNetfilter,
  createNamedNetns,
  deleteNetns,
  Errno,
  ensureBpffs,
  errnoName,
  Link,
  LinkError,
  NetfilterHook,
  netnsInode,
  openPinnedLink,
  type Program,
  pin,
  reachableNetnsInodes,
  unpin,
  VerifierError,
  withNetns,
} from '../../src/kernel/index.ts';
import { attr, BpfCommand, tryBpf } from '../../src/kernel/sys/bpf.ts';
import { Fd } from '../../src/kernel/sys/fd.ts';
import { encodeStruct, type StructInput } from '../../src/kernel/sys/struct.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces, withPair, withRouter } from '../support/netns.ts';
import { CountingProgram, loadProgram } from '../support/program.ts';

const NETFILTER = 45;
const INT_MIN = -0x80000000;
const INT_MAX = 0x7fffffff;

describeKernel('netfilter links', () => {
  let accept: Program;
  let xdp: Program;
  beforeAll(() => {
    accept = loadProgram('BPF_PROG_TYPE_NETFILTER', (asm) => asm.mov(R0, 1).exit());
    xdp = loadProgram('BPF_PROG_TYPE_XDP', (asm) => asm.mov(R0, 2).exit());
  });
  afterAll(() => {
    accept?.close();
    xdp?.close();
  });

  /** errno name of a raw LINK_CREATE inside a host, or `ok` (and detaches again). */
  function attempt(host: Host, values: StructInput<typeof attr.linkCreate>): string {
    const bytes = encodeStruct(attr.linkCreate, {
      programFd: accept.fd.number,
      attachType: NETFILTER,
      netfilterFamily: 2,
      ...values,
    });
    const result = host.run(() => tryBpf(BpfCommand.LINK_CREATE, bytes));
    if (result < 0) return errnoName(-result);
    new Fd(result, 'link').close();
    return 'ok';
  }

  test('the errno matrix of link creation', () =>
    withNamespaces(['m'], ({ m }) => {
      const cases: readonly (readonly [string, StructInput<typeof attr.linkCreate>, string])[] = [
        ['all zero', { netfilterFamily: 0 }, 'EAFNOSUPPORT'],
        ['link flags are looked at first', { netfilterFamily: 0, flags: 1 }, 'EINVAL'],
        ['any link flag', { flags: 0x80000000 }, 'EINVAL'],
        ['another attach type', { attachType: 46 }, 'EINVAL'],
        ['a program of another type', { programFd: xdp.fd.number }, 'EINVAL'],
        ['no program', { programFd: 4095 }, 'EBADF'],
        ['target is not looked at', { target: 4095, netfilterPriority: 7 }, 'ok'],
        ...[0, 1, 3, 5, 7, 11, 12, 13, 255].map(
          (pf) => [`family ${pf}`, { netfilterFamily: pf }, 'EAFNOSUPPORT'] as const,
        ),
        ['family before hook', { netfilterFamily: 13, netfilterHook: 42 }, 'EAFNOSUPPORT'],
        ...[5, 42, 0xffffffff].map((hook) => [`hook ${hook}`, { netfilterHook: hook }, 'EPROTO'] as const),
        ['hook before flags', { netfilterHook: 5, netfilterFlags: 2 }, 'EPROTO'],
        ...[2, 3, 0xffffffff].map(
          (flags) => [`netfilter flags ${flags}`, { netfilterFlags: flags }, 'EOPNOTSUPP'] as const,
        ),
        ['flags before priority', { netfilterFlags: 2, netfilterPriority: INT_MIN }, 'EOPNOTSUPP'],
        ['first priority', { netfilterPriority: INT_MIN }, 'ERANGE'],
        ['last priority', { netfilterPriority: INT_MAX }, 'ERANGE'],
        ['second priority', { netfilterPriority: INT_MIN + 1 }, 'ok'],
        ['last but one priority', { netfilterPriority: INT_MAX - 1 }, 'ok'],
        ...[2, 10].flatMap((netfilterFamily) => [
          [
            `defrag at -400 (${netfilterFamily})`,
            { netfilterFamily, netfilterPriority: -400, netfilterFlags: 1 },
            'ERANGE',
          ] as const,
          [
            `defrag before -400 (${netfilterFamily})`,
            { netfilterFamily, netfilterPriority: -401, netfilterFlags: 1 },
            'ERANGE',
          ] as const,
          [
            `defrag at -399 (${netfilterFamily})`,
            { netfilterFamily, netfilterPriority: -399, netfilterFlags: 1 },
            'ok',
          ] as const,
          [
            `no defrag at -400 (${netfilterFamily})`,
            { netfilterFamily, netfilterPriority: -400 },
            'ok',
          ] as const,
        ]),
        ['ipv4 POST_ROUTING -10000', { netfilterHook: 4, netfilterPriority: -10000 }, 'ok'],
        [
          'ipv6 FORWARD 10001 defrag',
          { netfilterFamily: 10, netfilterHook: 2, netfilterPriority: 10001, netfilterFlags: 1 },
          'ok',
        ],
      ];
      expect(cases.map(([name, values]) => `${name}: ${attempt(m, values)}`)).toEqual(
        cases.map(([name, , outcome]) => `${name}: ${outcome}`),
      );
    }));

  test('bytes beyond the known attribute must be zero', () =>
    withNamespaces(['m'], ({ m }) => {
      const bytes = new Uint8Array(256);
      bytes.set(
        encodeStruct(attr.linkCreate, {
          programFd: accept.fd.number,
          attachType: NETFILTER,
          netfilterFamily: 2,
        }),
      );
      bytes[255] = 1;
      expect(m.run(() => tryBpf(BpfCommand.LINK_CREATE, bytes))).toBe(-Errno.E2BIG);
    }));

  test('what was attached reads back, for both families, with and without defragmentation', () =>
    withNamespaces(['m'], ({ m }) => {
      const places = [
        { family: 'ipv4', hook: NetfilterHook.POST_ROUTING, priority: -10000, defragment: false },
        { family: 'ipv6', hook: NetfilterHook.FORWARD, priority: 10001, defragment: true },
        { family: 'ipv4', hook: NetfilterHook.PRE_ROUTING, priority: -399, defragment: true },
        { family: 'ipv6', hook: NetfilterHook.LOCAL_OUT, priority: 3, defragment: false },
      ] as const;
      for (const place of places) {
        using link = m.run(() => attachNetfilter(accept, place));
        expect(link.describe()).toEqual({ kind: 'netfilter', id: link.id, programId: accept.id, ...place });
        expect(Link.byId(link.id)?.describe()).toEqual(link.describe());
      }
    }));

  test('a priority is taken once per hook and family, and free after detach', () =>
    withNamespaces(['m'], ({ m }) => {
      const place = { family: 'ipv4', hook: NetfilterHook.LOCAL_IN, priority: 5 } as const;
      m.run(() => {
        using link = attachNetfilter(accept, place);
        expect(() => attachNetfilter(accept, place)).toThrow(
          expect.objectContaining({
            code: 'LINK_PRIORITY_TAKEN',
            message: expect.stringContaining(`of program "slc_test" (id ${accept.id})`),
            errno: Errno.EBUSY,
            hint: expect.stringContaining('priority'),
          }),
        );
        attachNetfilter(accept, { ...place, family: 'ipv6' }).close();
        attachNetfilter(accept, { ...place, hook: NetfilterHook.LOCAL_OUT }).close();
        link.detach();
        link.detach();
        // Details of a detached link still tell where it was.
        expect(link.describe()).toMatchObject({ priority: 5 });
        attachNetfilter(accept, place).close();
      });
      m.run(() => attachNetfilter(accept, place)).close();
    }));

  test('the owner of a taken priority is named', () =>
    withNamespaces(['m'], ({ m }) => {
      m.exec('iptables-legacy', ['-t', 'filter', '-L', '-n']);
      expect(() => m.run(() => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority: 0 }))).toThrow(
        /filter table/,
      );
      expect(() =>
        m.run(() => attachNetfilter(accept, { family: 'ipv6', hook: 1, priority: 0 })).close(),
      ).not.toThrow();
    }));

  test('priorities out of range say which range', () =>
    withNamespaces(['m'], ({ m }) => {
      const at = { family: 'ipv4', hook: NetfilterHook.PRE_ROUTING } as const;
      expect(() => m.run(() => attachNetfilter(accept, { ...at, priority: INT_MAX }))).toThrow(
        expect.objectContaining({ code: 'LINK_PRIORITY_RANGE', hint: expect.stringContaining('2147483646') }),
      );
      expect(() => m.run(() => attachNetfilter(accept, { ...at, priority: -400, defragment: true }))).toThrow(
        expect.objectContaining({ code: 'LINK_PRIORITY_RANGE', hint: expect.stringContaining('-399') }),
      );
    }));

  test('a hook takes 1024 functions and refuses the next', () =>
    withNamespaces(['m'], ({ m }) => {
      for (let priority = 1; priority <= 1024; priority++) {
        m.keep(m.run(() => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority })));
      }
      expect(() => m.run(() => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority: 2000 }))).toThrow(
        expect.objectContaining({ code: 'LINK_TOO_MANY', errno: Errno.E2BIG }),
      );
    }));

  test('netfilter links have no update', () =>
    withNamespaces(['m'], ({ m }) => {
      using link = m.run(() => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority: 1 }));
      expect(() => link.update(accept)).toThrow(
        expect.objectContaining({ code: 'LINK_UNSUPPORTED', hint: expect.stringContaining('dispatcher') }),
      );
    }));

  test('other programs cannot be attached', () =>
    withNamespaces(['m'], ({ m }) => {
      let caught: unknown;
      try {
        m.run(() => attachNetfilter(xdp, { family: 'ipv4', hook: 1, priority: 1 }));
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(LinkError);
      expect(caught).toMatchObject({ code: 'LINK_PROGRAM' });
    }));

  test('a failed attachment leaves no descriptor behind', () =>
    withNamespaces(['m'], ({ m }) => {
      const before = readdirSync('/proc/self/fd').length;
      for (let round = 0; round < 10; round++) {
        expect(() =>
          m.run(() => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority: INT_MIN })),
        ).toThrow();
      }
      expect(readdirSync('/proc/self/fd').length).toBe(before);
    }));

  test('drop and accept decide over real packets at LOCAL_IN and LOCAL_OUT, both families', () =>
    withPair(({ a, b }) => {
      for (const family of ['ipv4', 'ipv6'] as const) {
        using drop = new CountingProgram('BPF_PROG_TYPE_NETFILTER', 0);
        using pass = new CountingProgram('BPF_PROG_TYPE_NETFILTER', 1);
        const server = b.udp();
        const client = a.udp();
        const to = b[family];
        const inLink = b.run(() =>
          attachNetfilter(pass.program, { family, hook: NetfilterHook.LOCAL_IN, priority: 11 }),
        );
        client.send(to, server.port, 'one');
        expect(server.receiveText()).toBe('one');
        expect(pass.count).toBe(1);
        const dropLink = b.run(() =>
          attachNetfilter(drop.program, { family, hook: NetfilterHook.LOCAL_IN, priority: 13 }),
        );
        client.send(to, server.port, 'two');
        expect(server.receiveText(150)).toBeUndefined();
        expect([pass.count, drop.count]).toEqual([2, 1]);
        dropLink.close();
        client.send(to, server.port, 'three');
        expect(server.receiveText()).toBe('three');
        inLink.close();
        using outLink = a.run(() =>
          attachNetfilter(drop.program, { family, hook: NetfilterHook.LOCAL_OUT, priority: 11 }),
        );
        expect(() => client.send(to, server.port, 'four')).toThrow(/EPERM/);
        outLink.detach();
        client.send(to, server.port, 'five');
        expect(server.receiveText()).toBe('five');
      }
    }));

  test('each of the five hooks sees the packets that pass it', () =>
    withRouter(({ a, b, r }) => {
      const server = b.udp();
      const watched = Object.entries(NetfilterHook).map(([name, hook]) => {
        const counter = r.keep(new CountingProgram('BPF_PROG_TYPE_NETFILTER', 1));
        r.keep(r.run(() => attachNetfilter(counter.program, { family: 'ipv4', hook, priority: 21 })));
        return { name, counter };
      });
      a.udp().send(b.ipv4, server.port, 'x');
      expect(server.receiveText()).toBe('x');
      expect(Object.fromEntries(watched.map(({ name, counter }) => [name, counter.count]))).toEqual({
        PRE_ROUTING: 1,
        LOCAL_IN: 0,
        FORWARD: 1,
        LOCAL_OUT: 0,
        POST_ROUTING: 1,
      });
    }));

  test('with the flag a program at PRE_ROUTING sees one whole packet where it else sees fragments', () =>
    withPair(({ a, b }) => {
      for (const family of ['ipv4', 'ipv6'] as const) {
        const server = b.udp();
        const client = a.udp();
        for (const [defragment, packets] of [
          [false, 3],
          [true, 1],
        ] as const) {
          using counter = new CountingProgram('BPF_PROG_TYPE_NETFILTER', 1);
          using _link = b.run(() =>
            attachNetfilter(counter.program, {
              family,
              hook: NetfilterHook.PRE_ROUTING,
              priority: 42,
              defragment,
            }),
          );
          client.send(b[family], server.port, 'x'.repeat(4000));
          expect(server.receive()?.data).toHaveLength(4000);
          expect([family, defragment, counter.count]).toEqual([family, defragment, packets]);
        }
      }
    }));

  test('a pinned link outlives the name of its namespace, which ends with it', () => {
    const name = `slc-${process.pid}-held`;
    const path = `${ensureBpffs()}/slc-${process.pid}-link`;
    const netns = createNamedNetns(name);
    const inode = netnsInode(netns);
    try {
      const link = withNetns(netns, () => attachNetfilter(accept, { family: 'ipv4', hook: 1, priority: 9 }));
      pin(link, path);
      link.close();
    } finally {
      deleteNetns(name);
      netns.close();
    }
    expect(reachableNetnsInodes().has(inode)).toBe(false);
    const link = openPinnedLink(path)!;
    try {
      expect(link.describe()).toMatchObject({ kind: 'netfilter', priority: 9 });
      link.detach();
    } finally {
      unpin(path);
      link.close();
    }
    expect(openPinnedLink(path)).toBeUndefined();
  });

  test('a verdict outside drop and accept is refused at load, with the instruction', () => {
    for (const verdict of [2, 3, 4]) {
      expect(() => loadProgram('BPF_PROG_TYPE_NETFILTER', (asm) => asm.mov(R0, verdict).exit())).toThrow(
        /should have been in \[0, 1\]/,
      );
    }
    const unknown = (): unknown =>
      loadProgram('BPF_PROG_TYPE_NETFILTER', (asm) => asm.call('bpf_get_prandom_u32').exit());
    expect(unknown).toThrow(VerifierError);
    expect(unknown).toThrow(expect.objectContaining({ code: 'PROGRAM_REJECTED', instruction: 1 }));
  });

  test('the context is two trusted pointers, read only', () => {
    const load = (emit: Parameters<typeof loadProgram>[1]): string => {
      try {
        loadProgram('BPF_PROG_TYPE_NETFILTER', emit).close();
        return 'ok';
      } catch (error) {
        return error instanceof VerifierError ? `${error.instruction}: ${error.summary}` : String(error);
      }
    };
    expect(load((asm) => asm.load('u64', R2, R1, 0).load('u64', R2, R1, 8).mov(R0, 1).exit())).toBe('ok');
    for (const size of ['u8', 'u16', 'u32'] as const) {
      expect(load((asm) => asm.load(size, R2, R1, 0).mov(R0, 1).exit())).toMatch(
        /^0: invalid bpf_context access/,
      );
    }
    expect(load((asm) => asm.load('u64', R2, R1, 16).mov(R0, 1).exit())).toMatch(
      /^0: invalid bpf_context access/,
    );
    expect(load((asm) => asm.store('u64', R1, 0, R1).mov(R0, 1).exit())).toMatch(
      /^0: invalid bpf_context access/,
    );
    expect(
      load((asm) => asm.load('u64', R2, R1, 0).mov(R1, 0).store('u64', R2, 24, R1).mov(R0, 1).exit()),
    ).toMatch(/^2: .*only read is supported/);
  });
});
