/** nf_tables over our own netlink: the conntrack enable table and the action chain behind a netfilter program. */
import { expect, test } from 'vitest';
import { R0, R1, R2, R3, R4, R6, R10 } from '../../src/isa/index.ts';
import {
  attachNetfilter,
  BpfMap,
  conntrackEnabled,
  counter,
  countNftRules,
  disableConntrack,
  enableConntrack,
  isErrno,
  kernelTypes,
  listNftTables,
  MapFlag,
  masquerade,
  matchSocketFilter,
  NetfilterHook,
  type NftExpression,
  NftTransaction,
  type Rejection,
  redirect,
  reject,
  setMark,
  setNeighbour,
  translate,
  verdict,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces, withPair, withRouter } from '../support/netns.ts';
import { loadProgram } from '../support/program.ts';

/** Watches `skb->_nfct` at LOCAL_IN: the connection info bits of the last packet, 255 when it had no connection. */
function watchConntrack(host: Host): () => number {
  const map = host.keep(
    BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'nfct',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    }),
  );
  const program = host.keep(
    loadProgram(
      'BPF_PROG_TYPE_NETFILTER',
      (asm) => {
        const none = asm.label('none');
        const out = asm.label('out');
        asm.load('u64', R2, R1, 8).loadField('u64', R2, R2, 'sk_buff', '_nfct');
        asm.loadMapValue(R3, 'nfct').jump('==', R2, 0, none).and(R2, 7).goto(out);
        asm.place(none).mov(R2, 255).place(out).store('u64', R3, 0, R2).mov(R0, 1).exit();
      },
      { maps: { nfct: map }, types: kernelTypes() },
    ),
  );
  host.keep(
    host.run(() => attachNetfilter(program, { family: 'ipv4', hook: NetfilterHook.LOCAL_IN, priority: 31 })),
  );
  return () => map.lookup(0)![0]!;
}

describeKernel('nf_tables', () => {
  test('the conntrack enable table switches tracking on and off, and mends itself', () =>
    withPair(({ a, b }) => {
      const info = watchConntrack(b);
      const server = b.udp();
      const client = a.udp();
      const probe = (): number => {
        // A fresh port each time, so that each packet would be a new connection.
        a.udp().send(b.ipv4, server.port, 'x');
        expect(server.receiveText()).toBe('x');
        return info();
      };
      const on = (): boolean => b.run(() => conntrackEnabled('slc_ct'));
      expect([on(), probe()]).toEqual([false, 255]);
      b.run(() => enableConntrack('slc_ct'));
      const NEW = 2;
      expect([on(), probe()]).toEqual([true, NEW]);
      client.send(b.ipv4, server.port, 'x');
      const request = server.receive()!;
      server.send(request.from, request.port, 'answer');
      expect(client.receiveText()).toBe('answer');
      client.send(b.ipv4, server.port, 'again');
      server.receive();
      const ESTABLISHED = 0;
      expect(info()).toBe(ESTABLISHED);
      // Again, while it is on: still one rule.
      b.run(() => enableConntrack('slc_ct'));
      expect(b.run(() => countNftRules('inet', 'slc_ct', 'need_conntrack'))).toBe(1);
      b.exec('nft', ['flush', 'ruleset']);
      expect([on(), probe()]).toEqual([false, 255]);
      b.run(() => enableConntrack('slc_ct'));
      b.exec('nft', ['flush', 'table', 'inet', 'slc_ct']);
      expect([on(), probe()]).toEqual([false, 255]);
      b.run(() => enableConntrack('slc_ct'));
      expect([on(), probe()]).toEqual([true, NEW]);
      expect(b.run(() => disableConntrack('slc_ct'))).toBe(true);
      expect([on(), probe()]).toEqual([false, 255]);
      expect(b.run(() => disableConntrack('slc_ct'))).toBe(false);
    }));

  test('what we make is what nft lists', () =>
    withNamespaces(['m'], ({ m }) => {
      m.run(() => {
        new NftTransaction('ip', 'slc_t')
          .addTable()
          .addChain({ name: 'plain' })
          .addChain({ name: 'base', hook: { type: 'filter', number: 1, priority: 7, policy: 'drop' } })
          .addRule('base', [counter(), reject({ kind: 'tcp-reset' })])
          .addRule('base', [reject({ kind: 'unreachable', code: 13 })])
          .addRule('base', [...setMark(0x12), verdict('accept')])
          .commit();
        expect(listNftTables()).toEqual([{ family: 'ip', name: 'slc_t' }]);
      });
      const text = m.exec('nft', ['list', 'ruleset']).replace(/\s+/g, ' ');
      expect(text).toMatch(/type filter hook input priority (filter \+ )?7; policy drop;/);
      expect(text).toContain('counter packets 0 bytes 0 reject with tcp reset');
      expect(text).toMatch(/reject with icmp (type )?admin-prohibited/);
      expect(text).toContain('meta mark set 0x00000012 accept');
      m.run(() => new NftTransaction('ip', 'slc_t').flushChain('base').deleteChain('base').commit());
      expect(m.exec('nft', ['list', 'ruleset'])).not.toContain('base');
      m.run(() => new NftTransaction('ip', 'slc_t').deleteTable().commit());
      expect(m.run(listNftTables)).toEqual([]);
    }));

  test('a transaction that fails half way changes nothing and names the step', () =>
    withNamespaces(['m'], ({ m }) => {
      let caught: unknown;
      try {
        m.run(() =>
          new NftTransaction('ip', 'slc_t')
            .addTable()
            .addChain({ name: 'c' })
            .addRule('missing', [counter()])
            .commit(),
        );
      } catch (error) {
        caught = error;
      }
      expect(isErrno(caught, 2)).toBe(true);
      expect(String(caught)).toContain('adding a rule to chain missing of nftables table ip slc_t');
      expect(m.run(listNftTables)).toEqual([]);
    }));

  test('translation: redirect, destination, source and masquerade, with real connections', () =>
    withRouter(({ a, b, r }) => {
      const nat = (chain: string, number: number, rule: readonly NftExpression[]): void =>
        r.run(() =>
          new NftTransaction('ip', 'slc_nat')
            .addTable()
            .addChain({
              name: chain,
              hook: { type: 'nat', number, priority: chain === 'in' ? -100 : 100, policy: 'accept' },
            })
            .flushChain(chain)
            .addRule(chain, rule)
            .commit(),
        );
      const own = r.listen();
      const far = b.listen();
      /** Who is connected when `a` connects to port 7000 of the router, and from where. */
      const reach = (address: string): { at: string; from: string } => {
        const client = a.connect(address, 7000);
        const atRouter = own.accept(0);
        const accepted = atRouter ?? far.accept(500)!;
        const peer = accepted.peerAddress().address;
        accepted.close();
        client.close();
        return { at: atRouter === undefined ? 'b' : 'r', from: peer };
      };
      nat('in', NetfilterHook.PRE_ROUTING, redirect({ ports: [own.port, own.port] }));
      expect(reach(b.ipv4)).toEqual({ at: 'r', from: a.ipv4 });
      const target = addressBytes(b.ipv4);
      nat(
        'in',
        NetfilterHook.PRE_ROUTING,
        translate('dnat', 'ipv4', { addresses: [target, target], ports: [far.port, far.port] }),
      );
      expect(reach(r.ipv4)).toEqual({ at: 'b', from: a.ipv4 });
      nat('out', NetfilterHook.POST_ROUTING, masquerade({ random: 'fully' }));
      expect(reach(r.ipv4)).toEqual({ at: 'b', from: '10.12.0.254' });
      const source = addressBytes('10.12.0.77');
      nat(
        'out',
        NetfilterHook.POST_ROUTING,
        translate('snat', 'ipv4', { addresses: [source, source], persistent: true }),
      );
      r.configure('b', '10.12.0.77/32');
      b.run(() => setNeighbour({ index: b.device('r').index, address: source, mac: r.device('b').mac }));
      expect(reach(r.ipv4)).toEqual({ at: 'b', from: '10.12.0.77' });
      expect(() => redirect({ ports: [0, 1] })).toThrow(expect.objectContaining({ code: 'KERNEL_ARGUMENT' }));
    }));

  test('a netfilter program has packets refused by the native reject behind it', () =>
    withPair(({ a, b }) => {
      // The program notes the packet's address in a map and accepts; the chain right after asks a socket filter
      // whether the packet is noted, and rejects it.
      const noted = b.keep(
        BpfMap.create({
          type: 'BPF_MAP_TYPE_LRU_HASH',
          name: 'noted',
          keySize: 8,
          valueSize: 4,
          maxEntries: 64,
        }),
      );
      const marker = b.keep(
        loadProgram(
          'BPF_PROG_TYPE_NETFILTER',
          (asm) => {
            asm.load('u64', R6, R1, 8).store('u64', R10, -8, R6).store('u32', R10, -16, 1);
            asm.loadMap(R1, 'noted').mov(R2, R10).add(R2, -8).mov(R3, R10).add(R3, -16);
            asm.mov(R4, 0).call('bpf_map_update_elem').mov(R0, 1).exit();
          },
          { maps: { noted } },
        ),
      );
      const asks = b.keep(
        loadProgram(
          'BPF_PROG_TYPE_SOCKET_FILTER',
          (asm) => {
            const no = asm.label('no');
            const note = (): unknown => asm.loadMap(R1, 'noted').mov(R2, R10).add(R2, -8);
            asm.store('u64', R10, -8, R1);
            note();
            asm.call('bpf_map_lookup_elem').jump('==', R0, 0, no);
            // The note is used up: the kernel will give the same address to a later packet.
            note();
            asm.call('bpf_map_delete_elem').mov(R0, 1).exit().place(no).mov(R0, 0).exit();
          },
          { maps: { noted } },
        ),
      );
      const listener = b.listen();
      const cases: readonly (readonly [Rejection, RegExp])[] = [
        [{ kind: 'tcp-reset' }, /ECONNREFUSED/],
        [{ kind: 'unreachable', code: 3 }, /ECONNREFUSED/],
        [{ kind: 'unreachable', code: 13 }, /EHOSTUNREACH/],
      ];
      a.connect(b.ipv4, listener.port).close();
      const link = b.run(() =>
        attachNetfilter(marker, { family: 'ipv4', hook: NetfilterHook.LOCAL_IN, priority: 1 }),
      );
      for (const [rejection, outcome] of cases) {
        b.run(() =>
          new NftTransaction('ip', 'slc_act')
            .addTable()
            .addChain({ name: 'act', hook: { type: 'filter', number: 1, priority: 2, policy: 'accept' } })
            .flushChain('act')
            .addRule('act', [matchSocketFilter({ fd: asks.fd.number }), counter(), reject(rejection)])
            .commit(),
        );
        expect(() => a.connect(b.ipv4, listener.port, 2000)).toThrow(outcome);
      }
      expect(b.exec('nft', ['list', 'ruleset'])).toMatch(/counter packets [1-9]/);
      link.close();
      a.connect(b.ipv4, listener.port).close();
    }));
});
