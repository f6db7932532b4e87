/** Links at devices: XDP (one program, native or generic) and tcx (an ordered list), with real packets. */
import { expect, test } from 'vitest';
import {
  attachTcx,
  attachXdp,
  changeDevice,
  deleteDevice,
  Errno,
  type Link,
  type Ordering,
  queryPrograms,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withPair } from '../support/netns.ts';
import { CountingProgram } from '../support/program.ts';

const XDP_DROP = 1;
const XDP_PASS = 2;
const TC_NEXT = -1;
const TC_OK = 0;
const TC_DROP = 2;

describeKernel('xdp links', () => {
  test('native and generic programs decide over packets, and the device tells which runs', () =>
    withPair(({ a, b }) => {
      const ifindex = b.device('a').index;
      for (const mode of ['native', 'generic', 'auto'] as const) {
        using drop = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_DROP);
        using pass = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS);
        const server = b.udp();
        const client = a.udp();
        using link = b.run(() => attachXdp(drop.program, { ifindex, mode }));
        expect(link.describe()).toMatchObject({ kind: 'xdp', ifindex, programId: drop.program.id });
        const running = b.device('a').xdp;
        expect(mode === 'generic' ? running.generic : running.native).toBe(drop.program.id);
        client.send(b.ipv4, server.port, 'one');
        expect(server.receiveText(100)).toBeUndefined();
        expect(drop.count).toBe(1);
        link.update(pass.program, drop.program);
        client.send(b.ipv4, server.port, 'two');
        expect(server.receiveText()).toBe('two');
        expect([drop.count, pass.count]).toEqual([1, 1]);
        expect(() => link.update(drop.program, drop.program)).toThrow(
          expect.objectContaining({ code: 'LINK_REPLACED' }),
        );
      }
      expect(b.device('a').xdp).toEqual({ native: 0, generic: 0, offloaded: 0 });
    }));

  test('a second program is refused, whatever its mode', () =>
    withPair(({ b }) => {
      const ifindex = b.device('a').index;
      using pass = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS);
      using _link = b.run(() => attachXdp(pass.program, { ifindex, mode: 'native' }));
      for (const mode of ['native', 'generic'] as const) {
        expect(() => b.run(() => attachXdp(pass.program, { ifindex, mode }))).toThrow(
          expect.objectContaining({
            code: 'LINK_DEVICE_BUSY',
            message: expect.stringContaining(`"slc_test" (program id ${pass.program.id}, native)`),
            hint: expect.stringContaining('tcx'),
          }),
        );
      }
    }));

  test('missing devices and wrong programs are named as such', () =>
    withPair(({ b }) => {
      const ifindex = b.device('a').index;
      using pass = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS);
      using tc = new CountingProgram('BPF_PROG_TYPE_SCHED_CLS', TC_OK);
      expect(() => b.run(() => attachXdp(pass.program, { ifindex: 9999, mode: 'auto' }))).toThrow(
        expect.objectContaining({ code: 'LINK_NO_DEVICE' }),
      );
      expect(() => b.run(() => attachXdp(tc.program, { ifindex, mode: 'auto' }))).toThrow(
        expect.objectContaining({ code: 'LINK_PROGRAM' }),
      );
      // lo has no driver that could run XDP.
      expect(() => b.run(() => attachXdp(pass.program, { ifindex: 1, mode: 'native' }))).toThrow(
        expect.objectContaining({ code: 'LINK_UNSUPPORTED', errno: Errno.EOPNOTSUPP }),
      );
    }));

  test('frames too large for the program are told', () =>
    withPair(({ a, b }) => {
      // What a veth can receive is what its peer can send.
      a.run(() => changeDevice(a.device('b').index, { mtu: 9000 }));
      const ifindex = b.device('a').index;
      using pass = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS);
      expect(() => b.run(() => attachXdp(pass.program, { ifindex, mode: 'native' }))).toThrow(
        expect.objectContaining({ code: 'LINK_UNSUPPORTED', hint: expect.stringContaining('mtu') }),
      );
    }));

  test('a link whose device has gone says so', () =>
    withPair(({ a, b }) => {
      const ifindex = b.device('a').index;
      using pass = new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS);
      using link = b.run(() => attachXdp(pass.program, { ifindex, mode: 'generic' }));
      a.run(() => deleteDevice(a.device('b').index));
      expect(link.describe()).toMatchObject({ kind: 'xdp', ifindex: 0 });
      expect(() => link.update(pass.program)).toThrow(expect.objectContaining({ code: 'LINK_GONE' }));
    }));
});

describeKernel('tcx links', () => {
  /** Attaches at b's device `a`, ingress. */
  const attach = (b: Host, counting: CountingProgram, ordering: Ordering = {}): Link =>
    b.keep(
      b.run(() =>
        attachTcx(counting.program, { ifindex: b.device('a').index, direction: 'ingress', ...ordering }),
      ),
    );
  const order = (b: Host): number[] =>
    b
      .run(() => queryPrograms(b.device('a').index, 'BPF_TCX_INGRESS'))
      .programs.map(({ programId }) => programId);
  const make = (b: Host, verdict: number): CountingProgram =>
    b.keep(new CountingProgram('BPF_PROG_TYPE_SCHED_CLS', verdict));

  test('programs stand where they are told to, by object and by id', () =>
    withPair(({ b }) => {
      const [one, two, three, four, five, six] = Array.from({ length: 6 }, () => make(b, TC_NEXT));
      const id = (counting: CountingProgram | undefined): number => counting!.program.id;
      const first = attach(b, one!);
      attach(b, two!);
      expect(order(b)).toEqual([one, two].map(id));
      attach(b, three!, { position: 'first' });
      expect(order(b)).toEqual([three, one, two].map(id));
      attach(b, four!, { position: { before: { link: first } } });
      expect(order(b)).toEqual([three, four, one, two].map(id));
      attach(b, five!, { position: { after: { programId: id(three) } } });
      expect(order(b)).toEqual([three, five, four, one, two].map(id));
      const sixth = attach(b, six!, { position: { after: { program: one!.program } } });
      expect(order(b)).toEqual([three, five, four, one, six, two].map(id));
      sixth.close();
      attach(b, six!, { position: { before: { linkId: first.id } } });
      expect(order(b)).toEqual([three, five, four, six, one, two].map(id));
      expect(first.describe()).toMatchObject({ kind: 'tcx', direction: 'ingress', programId: id(one) });
    }));

  test('the revision guards against changes in between', () =>
    withPair(({ b }) => {
      const [one, two] = [make(b, TC_NEXT), make(b, TC_NEXT)];
      const { index } = b.device('a');
      attach(b, one);
      const { revision } = b.run(() => queryPrograms(index, 'BPF_TCX_INGRESS'));
      attach(b, two, { expectedRevision: revision });
      const three = make(b, TC_NEXT);
      expect(() => attach(b, three, { expectedRevision: revision })).toThrow(
        expect.objectContaining({ code: 'LINK_STALE_REVISION', errno: Errno.ESTALE }),
      );
      expect(order(b)).toHaveLength(2);
    }));

  test('duplicates, absent neighbours, devices and a full list are refused in words', () =>
    withPair(({ b }) => {
      const [one, absent] = [make(b, TC_NEXT), make(b, TC_NEXT)];
      attach(b, one);
      expect(() => attach(b, one)).toThrow(expect.objectContaining({ code: 'LINK_DUPLICATE' }));
      expect(() =>
        attach(b, make(b, TC_NEXT), { position: { before: { program: absent.program } } }),
      ).toThrow(expect.objectContaining({ code: 'LINK_NO_RELATIVE' }));
      expect(() => b.run(() => attachTcx(absent.program, { ifindex: 9999, direction: 'egress' }))).toThrow(
        expect.objectContaining({ code: 'LINK_NO_DEVICE' }),
      );
      let made = 1;
      const fill = (): void => {
        for (; made < 70; made++) attach(b, make(b, TC_NEXT));
      };
      expect(fill).toThrow(expect.objectContaining({ code: 'LINK_TOO_MANY', errno: Errno.ERANGE }));
      expect([made, order(b).length]).toEqual([63, 63]);
    }));

  test('a drop ends the list, a pass too, NEXT goes on; ingress and egress', () =>
    withPair(({ a, b }) => {
      const server = b.udp();
      const client = a.udp();
      const next = make(b, TC_NEXT);
      const drop = make(b, TC_DROP);
      const ok = make(b, TC_OK);
      attach(b, next);
      const dropLink = attach(b, drop);
      client.send(b.ipv4, server.port, 'one');
      expect(server.receiveText(100)).toBeUndefined();
      expect([next.count, drop.count]).toEqual([1, 1]);
      attach(b, ok, { position: { before: { link: dropLink } } });
      client.send(b.ipv4, server.port, 'two');
      expect(server.receiveText()).toBe('two');
      expect([next.count, ok.count, drop.count]).toEqual([2, 1, 1]);
      const out = a.keep(new CountingProgram('BPF_PROG_TYPE_SCHED_CLS', TC_DROP));
      using egress = a.run(() =>
        attachTcx(out.program, { ifindex: a.device('b').index, direction: 'egress' }),
      );
      client.send(b.ipv4, server.port, 'three');
      expect(server.receiveText(100)).toBeUndefined();
      expect(out.count).toBe(1);
      egress.update(ok.program);
      client.send(b.ipv4, server.port, 'four');
      expect(server.receiveText()).toBe('four');
    }));
});
