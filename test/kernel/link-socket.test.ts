/** Links that belong to sockets: cgroup_skb and sk_lookup, with real packets. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { R0, R1, R2, R3, R4, R6, R10 } from '../../src/isa/index.ts';
import {
  attachCgroup,
  attachSkLookup,
  BpfMap,
  currentNetns,
  findCgroup2,
  openCgroup,
  queryPrograms,
  UpdateFlag,
} from '../../src/kernel/index.ts';
import { syscall } from '../../src/kernel/sys/syscall.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { CountingProgram, loadProgram } from '../support/program.ts';

const cgroupRoot = describeCgroup();
function describeCgroup(): string | undefined {
  return process.platform === 'linux' ? findCgroup2() : undefined;
}

describeKernel(
  'cgroup links',
  () => {
    /** Sends one UDP packet to loopback from a shell that is in the cgroup; its exit status. */
    function sendFrom(cgroup: string, port: number): number | null {
      const script = `echo $$ > ${cgroup}/cgroup.procs && echo -n x > /dev/udp/127.0.0.1/${port}`;
      return spawnSync('bash', ['-c', script], { timeout: LONG_MS }).status;
    }

    test('egress and ingress of the sockets of a cgroup, and of nobody else', () =>
      withNamespaces(['m'], ({ m }) => {
        const path = `${cgroupRoot}/slc-${process.pid}`;
        mkdirSync(path);
        try {
          const server = m.udp();
          using drop = new CountingProgram('BPF_PROG_TYPE_CGROUP_SKB', 0, 'BPF_CGROUP_INET_EGRESS');
          using pass = new CountingProgram('BPF_PROG_TYPE_CGROUP_SKB', 1, 'BPF_CGROUP_INET_EGRESS');
          using link = attachCgroup(drop.program, { path, direction: 'egress' });
          expect(link.describe()).toMatchObject({ kind: 'cgroup', attachType: 'BPF_CGROUP_INET_EGRESS' });
          expect(m.run(() => sendFrom(path, server.port))).not.toBe(0);
          expect(server.receiveText(100)).toBeUndefined();
          expect(drop.count).toBe(1);
          m.udp().send('127.0.0.1', server.port, 'outside');
          expect(server.receiveText()).toBe('outside');
          link.update(pass.program);
          expect(m.run(() => sendFrom(path, server.port))).toBe(0);
          expect(server.receiveText()).toBe('x');
          expect([drop.count, pass.count]).toEqual([1, 1]);
          const directory = openCgroup(path);
          expect(
            queryPrograms(directory, 'BPF_CGROUP_INET_EGRESS').programs.map((entry) => entry.programId),
          ).toEqual([pass.program.id]);
          syscall('close', directory);
        } finally {
          rmdirSync(path);
        }
      }));

    test('a directory outside of cgroup v2 is refused in words', () => {
      using pass = new CountingProgram('BPF_PROG_TYPE_CGROUP_SKB', 1, 'BPF_CGROUP_INET_INGRESS');
      expect(() => attachCgroup(pass.program, { path: '/tmp', direction: 'ingress' })).toThrow(
        expect.objectContaining({ code: 'LINK_UNSUPPORTED', hint: expect.stringContaining('cgroup2') }),
      );
      expect(() => attachCgroup(pass.program, { path: '/no/such', direction: 'ingress' })).toThrow(
        expect.objectContaining({ code: 'KERNEL_ARGUMENT' }),
      );
    });

    test('a link whose cgroup has gone says so', () => {
      const path = `${cgroupRoot}/slc-${process.pid}-gone`;
      mkdirSync(path);
      using pass = new CountingProgram('BPF_PROG_TYPE_CGROUP_SKB', 1, 'BPF_CGROUP_INET_INGRESS');
      using link = attachCgroup(pass.program, { path, direction: 'ingress' });
      rmdirSync(path);
      // The cgroup's end is asynchronous in the kernel; the link notices at the latest then.
      for (let waited = 0; waited < 100; waited++) {
        const now = link.describe();
        if (now.kind === 'cgroup' && now.cgroupId === 0n) break;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
      expect(link.describe()).toMatchObject({ kind: 'cgroup', cgroupId: 0n });
    });
  },
  cgroupRoot === undefined ? 'needs a cgroup v2 hierarchy' : undefined,
);

describeKernel('sk_lookup links', () => {
  const SK_PASS = 1;

  /** A program that gives every packet to the socket in slot 0. */
  function steering(map: BpfMap): ReturnType<typeof loadProgram> {
    return loadProgram(
      'BPF_PROG_TYPE_SK_LOOKUP',
      (asm) => {
        const pass = asm.label('pass');
        asm.mov(R6, R1).store('u32', R10, -4, 0).loadMap(R1, 'sockets').mov(R2, R10).add(R2, -4);
        asm.call('bpf_map_lookup_elem').jump('==', R0, 0, pass);
        asm.mov(R1, R6).mov(R2, R0).mov(R6, R0).mov(R3, 0).mov(R4, 0).call('bpf_sk_assign');
        asm.mov(R1, R6).call('bpf_sk_release').place(pass).mov(R0, SK_PASS).exit();
      },
      { maps: { sockets: map } },
    );
  }

  const socketMap = (): BpfMap =>
    BpfMap.create({ type: 'BPF_MAP_TYPE_SOCKMAP', name: 'sockets', keySize: 4, valueSize: 8, maxEntries: 1 });

  const value = (fd: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(fd)).buffer);

  test('TCP and UDP, IPv4 and IPv6, reach a socket on another port', () =>
    withPair(({ a, b }) => {
      for (const address of [b.ipv4, b.ipv6]) {
        const any = address === b.ipv4 ? '0.0.0.0' : '::';
        const map = b.keep(socketMap());
        const program = b.keep(steering(map));
        const listener = b.listen(0, any);
        map.update(0, value(listener.fd.number), UpdateFlag.BPF_ANY);
        using link = attachSkLookup(program, b.netns.number);
        expect(link.describe()).toMatchObject({
          kind: 'netns',
          netnsInode: b.inode,
          attachType: 'BPF_SK_LOOKUP',
        });
        const client = a.connect(address, 81);
        const accepted = b.keep(listener.accept()!);
        expect(accepted.localAddress()).toEqual({ address, port: 81 });
        client.send('hello');
        expect(accepted.receiveText()).toBe('hello');
        const udp = b.udp(0, any);
        map.update(0, value(udp.fd.number), UpdateFlag.BPF_ANY);
        a.udp().send(address, 5353, 'query');
        expect(udp.receiveText()).toBe('query');
        link.detach();
        expect(() => a.connect(address, 81)).toThrow(/ECONNREFUSED/);
      }
    }));

  test('what attaching refuses', () =>
    withNamespaces(['m'], ({ m }) => {
      const map = m.keep(socketMap());
      const program = m.keep(steering(map));
      using pass = new CountingProgram('BPF_PROG_TYPE_XDP', 2);
      expect(() => attachSkLookup(pass.program, m.netns.number)).toThrow(
        expect.objectContaining({ code: 'LINK_PROGRAM' }),
      );
      expect(() => attachSkLookup(program, map.fd.number)).toThrow(
        expect.objectContaining({ code: 'LINK_PROGRAM' }),
      );
      for (let made = 0; made < 64; made++) m.keep(attachSkLookup(program, m.netns.number));
      expect(queryPrograms(m.netns.number, 'BPF_SK_LOOKUP').programs).toHaveLength(64);
      expect(() => attachSkLookup(program, m.netns.number)).toThrow(
        expect.objectContaining({ code: 'LINK_TOO_MANY' }),
      );
      using here = currentNetns();
      expect(queryPrograms(here.number, 'BPF_SK_LOOKUP').programs).not.toHaveLength(64);
    }));
});
