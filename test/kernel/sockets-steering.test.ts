/** Socket steering in the kernel: the program's choices against the definition, and real sockets. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SocketSteering } from '../../src/host/index.ts';
import { selectedSocketCookie, skLookupContext, testRun } from '../../src/kernel/index.ts';
import { formatBinding, lookupLinear, PROTOCOL_NUMBER, parseBindings } from '../../src/sklookup/index.ts';
import { anyBindingSet, anyTuple, LABELS } from '../support/bindings.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';

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
      const { openPinnedProgram } = await import('../../src/kernel/index.ts');
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
});
