/** Socket steering in the kernel: the program's choices against the definition, and real sockets. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { explainLookup, SocketSteering } from '../../src/host/index.ts';
import {
  type AssembledProgram,
  type Assembler,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R10,
} from '../../src/isa/index.ts';
import {
  attachSkLookup,
  BpfMap,
  linkProgram,
  MapFlag,
  openPinnedProgram,
  Program,
  selectedSocketCookie,
  skLookupContext,
  testRun,
} from '../../src/kernel/index.ts';
import { encodeEndpoint } from '../../src/kernel/sys/socket.ts';
import { syscall } from '../../src/kernel/sys/syscall.ts';
import { formatBinding, lookupLinear, PROTOCOL_NUMBER, parseBindings } from '../../src/sklookup/index.ts';
import { anyBindingSet, anyTuple, LABELS } from '../support/bindings.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces } from '../support/netns.ts';
import { loadProgram } from '../support/program.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';
import { actionProgram, assignProgram, F_REPLACE } from '../support/sklookup-programs.ts';

const SUPPORT = new URL('../support/sockets/', import.meta.url).pathname;
const RUNS = process.env.SLUICE_SOAK === '1' ? 1_000 : 25;

async function withSteering(use: (host: Host, steering: SocketSteering) => Promise<void>): Promise<void> {
  await withNamespaces(['s'], async ({ s }) => {
    const { steering } = await SocketSteering.load(s.netnsName);
    try {
      await use(s, steering);
    } finally {
      steering.close();
      await SocketSteering.unload(s.netnsName);
    }
  });
}

/** Returns the local port of the socket that a packet to this address would get; 0: none. */
function emitPortOfSocket(asm: Assembler, protocol: 'tcp' | 'udp', address: string, port: number): void {
  const none = asm.label('none');
  const bytes = addressBytes(address);
  // struct bpf_sock_tuple: source, destination, ports.
  const tuple = new Uint8Array(bytes.length * 2 + 4);
  tuple.set(bytes, 0);
  tuple.set(bytes, bytes.length);
  new DataView(tuple.buffer).setUint16(bytes.length * 2, 4000);
  new DataView(tuple.buffer).setUint16(bytes.length * 2 + 2, port);
  const words = new DataView(tuple.buffer);
  for (let at = 0; at < tuple.length; at += 4)
    asm.store('u32', R10, at - tuple.length, words.getInt32(at, true));
  asm.mov(R2, R10).add(R2, -tuple.length).mov(R3, tuple.length).mov(R4, -1).mov(R5, 0);
  asm.call(`bpf_sk_lookup_${protocol}`).jump('==', R0, 0, none);
  asm.load('u32', R6, R0, 44).mov(R1, R0).call('bpf_sk_release').mov(R0, R6).exit();
  asm.place(none).return(0);
}

describeKernel('socket steering', () => {
  test('kernel, virtual machine and linear definition agree on random bindings and packets', () =>
    withSteering(async (host, steering) => {
      const machine = new SkLookupMachine();
      // One socket a label, protocol and family, so that a cookie names the label.
      const names = new Map<bigint, string>([[0n, '']]);
      for (const label of LABELS) {
        const listeners = [host.listen(0, '127.0.0.1'), host.listen(0, '::1')];
        const receivers = [host.udp(0, '127.0.0.1'), host.udp(0, '::1')];
        for (const { fd } of [...listeners, ...receivers]) {
          const { description } = await steering.register(fd, { label });
          names.set(description.cookie, label);
        }
      }
      const program = openPinnedProgram(`/sys/fs/bpf/sluice/sockets/${host.cookie}/program`)!;
      try {
        await fc.assert(
          fc.asyncProperty(
            anyBindingSet(false),
            fc.array(anyTuple(false), { minLength: 40, maxLength: 40 }),
            async (bindings, tuples) => {
              await steering.apply({ bindings, labels: new Map() });
              machine.install(bindings);
              for (const tuple of tuples) {
                const context = skLookupContext({ ...tuple, protocol: PROTOCOL_NUMBER[tuple.protocol] });
                const result = testRun(program, { context });
                const chosen =
                  result.returnValue === 1 ? names.get(selectedSocketCookie(result.context)) : 'drop';
                const wanted = lookupLinear(bindings, tuple)?.label ?? '';
                const text = `${bindings.map(formatBinding).join('\n')}\n${JSON.stringify(tuple)}`;
                expect(chosen, text).toBe(wanted);
                expect(machine.lookup(tuple), text).toBe(wanted);
              }
            },
          ),
          { numRuns: RUNS },
        );
      } finally {
        program.close();
      }
    }));

  test.each(['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] as const)(
    'a redirection is visible to %s programs that look sockets up',
    (type) =>
      withSteering(async (host, steering) => {
        const web = host.listen(8080, '127.0.0.1');
        const dns = host.udp(5353, '::');
        await steering.register(web.fd, { label: 'web' });
        await steering.register(dns.fd, { label: 'dns' });
        const found = (protocol: 'tcp' | 'udp', address: string, port: number): number => {
          using program = loadProgram(type, (asm) => emitPortOfSocket(asm, protocol, address, port));
          return host.run(() => testRun(program, { data: new Uint8Array(64) })).returnValue;
        };
        expect(found('tcp', '127.9.9.9', 80)).toBe(0);
        await steering.apply(
          parseBindings('web tcp 127.0.0.0/8 80\ndns udp ::/0 all\nnone udp 127.0.0.0/8 all\n', 'test'),
        );
        expect(found('tcp', '127.9.9.9', 80)).toBe(8080);
        expect(found('tcp', '127.9.9.9', 81)).toBe(0);
        expect(found('udp', 'fd00::9', 53)).toBe(5353);
        // Dropped: no socket, although one listens at all addresses.
        expect(found('udp', '127.0.0.1', 5353)).toBe(0);
        web.close();
        expect(found('tcp', '127.9.9.9', 80)).toBe(0);
      }),
  );

  test('explain asks the program with the device that a packet comes in by', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('lo tcp 127.0.0.0/8 80 in lo\nany tcp 127.0.0.0/8 80\n', 'test'));
      const { description } = await steering.register(host.listen(8080, '127.0.0.1').fd, { label: 'lo' });
      const explain = (device: string) =>
        explainLookup(steering, {
          protocol: 'tcp',
          localAddress: addressBytes('127.0.0.1'),
          localPort: 80,
          remoteAddress: addressBytes('127.0.0.1'),
          remotePort: 4000,
          device,
        });
      const named = { outcome: 'socket', cookie: description.cookie, agrees: true };
      expect(explain('lo')).toMatchObject({ ...named, winner: { label: 'lo' } });
      expect(explain('')).toMatchObject({ outcome: 'drop', agrees: true, winner: { label: 'any' } });
      expect(() => explain('eth9')).toThrow(expect.objectContaining({ code: 'HOST_SOCKETS_DEVICE' }));
    }));

  test('a binding sends real connections and datagrams to its socket; without one they are refused', () =>
    withSteering(async (host, steering) => {
      const file =
        'web tcp 127.0.0.0/8 80\nweb tcp ::1 80\ndns udp 127.1.0.0/16 all\nlabel open when-empty pass\nopen tcp 127.0.0.9 81\n';
      await steering.apply(parseBindings(file, 'test'));
      expect(() => host.connect('127.0.0.1', 80)).toThrow(/ECONNREFUSED/);
      const web = host.listen(0, '::');
      await steering.register(web.fd, { label: 'web' });
      for (const address of ['127.0.0.1', '127.9.9.9', '::1']) {
        const client = host.connect(address, 80);
        const server = web.accept()!;
        expect(server.localAddress()).toEqual({ address, port: 80 });
        server.send('hello');
        expect(client.receiveText()).toBe('hello');
      }
      const dns = host.udp(5353, '127.0.0.1');
      await steering.register(dns.fd, { label: 'dns' });
      const client = host.udp(0, '127.0.0.1');
      for (const port of [1, 53, 65535]) {
        client.send('127.1.2.3', port, 'query');
        expect(dns.receiveText()).toBe('query');
      }
      const ordinary = host.listen(81, '127.0.0.9');
      host.connect('127.0.0.9', 81);
      expect(ordinary.accept()).toBeDefined();
      const status = steering.status();
      const tcp4 = status.destinations.find(({ label, family }) => label === 'web' && family === 'ipv4')!;
      expect(tcp4.metrics).toMatchObject({ lookups: 3, assigned: 2, misses: 1 });
      web.close();
      expect(() => host.connect('127.0.0.1', 80)).toThrow(/ECONNREFUSED/);
      expect(
        steering.status().destinations.find(({ label }) => label === 'web')!.members[0]!.cookie,
      ).toBeUndefined();
    }));

  test('beside other programs: what one chose before stands and is counted, one after can choose anew; a drop counts only alone', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('web tcp 127.0.0.1 80\nempty tcp 127.0.0.1 81\n', 'test'));
      const [web, theirs] = [host.listen(8080, '127.0.0.1'), host.listen(8081, '127.0.0.1')];
      await steering.register(web.fd, { label: 'web' });
      using sockets = BpfMap.create({
        type: 'BPF_MAP_TYPE_SOCKMAP',
        name: 'slc_theirs',
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
      });
      using ran = BpfMap.create({
        type: 'BPF_MAP_TYPE_ARRAY',
        name: 'slc_ran',
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: MapFlag.BPF_F_MMAPABLE,
      });
      sockets.update(0, new Uint8Array(BigUint64Array.of(BigInt(theirs.fd.number)).buffer));
      const load = (assembled: AssembledProgram): Program =>
        Program.load({
          type: 'BPF_PROG_TYPE_SK_LOOKUP',
          name: 'slc_foreign',
          instructions: linkProgram(assembled, { maps: { sockets, ran } }),
          expectedAttachType: 'BPF_SK_LOOKUP',
        });
      using redirect = load(actionProgram('redirect'));
      // Plain assignment does not replace a choice; this one does.
      using replace = load(assignProgram([{ slot: 0, flags: F_REPLACE, result: 0 }]));
      using drop = load(actionProgram('drop'));
      /** Who gets a connection while the program runs too. */
      const answered = (foreign: Program, port: number): string => {
        const link = attachSkLookup(foreign, host.netns.number);
        try {
          host.connect('127.0.0.1', port, 5000);
          return web.accept(0) !== undefined ? 'web' : theirs.accept(0) !== undefined ? 'theirs' : 'nobody';
        } catch {
          return 'refused';
        } finally {
          link.close();
        }
      };
      const metricsOf = (label: string) =>
        steering.status().destinations.find((each) => each.label === label)!.metrics;
      // Attached after ours.
      expect(answered(redirect, 80)).toBe('web');
      expect(answered(replace, 80)).toBe('theirs');
      expect(answered(drop, 80)).toBe('web');
      expect(answered(redirect, 81)).toBe('theirs');
      expect(answered(drop, 82)).toBe('refused');
      expect(metricsOf('web')).toMatchObject({ lookups: 3, assigned: 3, errors: { taken: 0 } });
      expect(metricsOf('empty')).toMatchObject({ lookups: 1, misses: 1 });
      // Attached before: in its own order it comes first, so ours is loaded anew behind it.
      const first = attachSkLookup(redirect, host.netns.number);
      try {
        const file = steering.bindings();
        await SocketSteering.unload(host.netnsName);
        const { steering: behind } = await SocketSteering.load(host.netnsName);
        try {
          await behind.apply(file);
          await behind.register(web.fd, { label: 'web' });
          expect(behind.status().programs.map(({ ours }) => ours)).toEqual([false, true]);
          host.connect('127.0.0.1', 80);
          expect(theirs.accept(5000)).toBeDefined();
          expect(behind.status().destinations.find(({ label }) => label === 'web')!.metrics).toMatchObject({
            lookups: 1,
            assigned: 0,
            errors: { taken: 1 },
          });
        } finally {
          behind.close();
        }
      } finally {
        first.close();
      }
    }));

  test('a registered socket that changes its state is counted by reason, and nobody else gets its packets', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('dns udp 127.0.0.1 53\n', 'test'));
      const [server, ordinary] = [host.udp(5353, '127.0.0.1'), host.udp(53, '127.0.0.1')];
      await steering.register(server.fd, { label: 'dns' });
      const peer = encodeEndpoint({ address: addressBytes('127.0.0.9'), port: 9 });
      syscall('connect', server.fd.number, peer, peer.length);
      host.udp(0, '127.0.0.1').send('127.0.0.1', 53, 'q');
      const { metrics } = steering.status().destinations[0]!;
      expect(metrics).toMatchObject({ lookups: 1, assigned: 0, errors: { wrongState: 1 } });
      expect(ordinary.receive(50)).toBeUndefined();
      expect(server.receive(0)).toBeUndefined();
    }));

  test('two processes write, a third reads: always the one whole set or the other', () =>
    withSteering(async (host, steering) => {
      const sizes: Readonly<Record<string, number>> = { one: 3_000, two: 2_000 };
      const fileOf = (label: string): string =>
        Array.from({ length: sizes[label]! }, (_, n) => `${label} tcp 10.${n >> 8}.${n & 255}.0/24 80`).join(
          '\n',
        );
      await steering.apply(parseBindings(fileOf('one'), 'test'));
      const folder = mkdtempSync(join(tmpdir(), 'slc-'));
      try {
        const ended: Promise<number | null>[] = [];
        for (const label of ['one', 'two']) {
          const path = join(folder, label);
          writeFileSync(path, fileOf(label));
          const words = [`${SUPPORT}writing-child.mjs`, host.netnsName, path, '8'];
          const child = spawn(process.execPath, words, { stdio: 'inherit' });
          ended.push(once(child, 'exit').then(([code]) => code as number | null));
        }
        let running = true;
        const all = Promise.all(ended).finally(() => {
          running = false;
        });
        while (running) {
          const { bindings } = steering.bindings();
          const labels = new Set(bindings.map(({ label }) => label));
          expect(labels.size).toBe(1);
          const [label] = labels;
          expect(bindings).toHaveLength(sizes[label!]!);
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(await all).toEqual([0, 0]);
        expect(steering.status().generation).toBe(17);
      } finally {
        rmSync(folder, { recursive: true });
      }
    }));
});
