/** `--fragments track` at xdp and tcx, both ways: later fragments have the verdict of the first one; earlier ones are dropped. */
import { expect, test } from 'vitest';
import { SystemCounter } from '../../src/compile/arena/layout.ts';
import {
  compilePolicy,
  entryIndex,
  GENERATIONS_OFFSET,
  type HookName,
  type StrategyName,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import { netnsTables } from '../../src/host/policy/surroundings.ts';
import { attachTcx, attachXdp, RawSender } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, withNamespaces } from '../support/netns.ts';
import { LoadedPolicy } from '../support/policy.ts';
import { Tap } from '../support/tap.ts';

const SOURCE = { ipv4: '10.9.0.2', ipv6: 'fd99::2' } as const;
const OWN = { ipv4: '10.9.0.1', ipv6: 'fd99::1' } as const;
const OPEN_PORT = 7000;
const CLOSED_PORT = 7001;
const DATA = 16;

interface Fragment {
  readonly id: number;
  /** In bytes. */
  readonly offset: number;
  readonly more: boolean;
  /** Of the UDP header; later fragments have none. */
  readonly port?: number;
}

/** A fragment that comes to this host, or that it sends. */
function packet(family: Family, { id, offset, more, port }: Fragment, sent: boolean): Uint8Array {
  const body = new Uint8Array(8 + DATA);
  const udp = new DataView(body.buffer);
  if (port !== undefined) {
    udp.setUint16(0, 1234);
    udp.setUint16(2, port);
    udp.setUint16(4, 100);
  }
  const header = new Uint8Array(family === 'ipv4' ? 20 : 48);
  const view = new DataView(header.buffer);
  const size = family === 'ipv4' ? 4 : 16;
  const at = family === 'ipv4' ? 12 : 8;
  const [from, to] = sent ? [OWN, SOURCE] : [SOURCE, OWN];
  header.set(addressBytes(from[family]), at);
  header.set(addressBytes(to[family]), at + size);
  if (family === 'ipv4') {
    header.set([0x45, 0, 0, header.length + body.length]);
    view.setUint16(4, id);
    view.setUint16(6, (more ? 0x2000 : 0) | (offset >> 3));
    header.set([64, 17], 8);
    let sum = 0;
    for (let word = 0; word < 20; word += 2) sum += view.getUint16(word);
    view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
  } else {
    header[0] = 0x60;
    view.setUint16(4, 8 + body.length);
    header.set([44, 64], 6);
    header[40] = 17;
    view.setUint16(42, offset | (more ? 1 : 0));
    view.setUint32(44, id);
  }
  return Uint8Array.of(...header, ...body);
}

const CASES = (['xdp', 'tcx-ingress', 'tcx-egress'] as const).flatMap((hook) =>
  (['inline', 'classifier'] as const).flatMap((strategy) =>
    (['ipv4', 'ipv6'] as const).map((family) => [hook, strategy, family] as const),
  ),
);

describeKernel('fragments that follow the first', () => {
  test.each(CASES)('%s, %s, %s', (hook: HookName, strategy: StrategyName, family) =>
    withNamespaces(['h'], ({ h }) => {
      const tap = Tap.open(h, 'eth0', `${OWN.ipv4}/24`, `${OWN.ipv6}/64`);
      const sent = hook === 'tcx-egress';
      const chain = sent ? 'OUTPUT' : 'INPUT';
      const text = `*filter\n:${chain} DROP [0:0]\n-A ${chain} -p udp --dport ${OPEN_PORT} -j ACCEPT\nCOMMIT\n`;
      const { ruleset } = parseRuleset(text, { file: 'track', family });
      const policy = compilePolicy([ruleset], { hooks: [hook], strategy, fragments: 'track' });
      const loaded = h.keep(new LoadedPolicy(policy, h.run(netnsTables)));
      loaded.enter(h.cookie, GENERATIONS_OFFSET);
      const dispatcher = loaded.dispatchers.get(entryIndex(policy.programs[0]!.point))!;
      const { index: ifindex } = h.device('eth0');
      h.keep(
        h.run(() =>
          hook === 'xdp'
            ? attachXdp(dispatcher, { ifindex, mode: 'generic' })
            : attachTcx(dispatcher, { ifindex, direction: sent ? 'egress' : 'ingress' }),
        ),
      );
      const sender = sent ? h.keep(h.run(() => new RawSender({ family, priority: 0 }))) : undefined;
      const { ir, firstCounter } = policy.tables[0]!;
      const rules = ir.chains.get(chain)!;
      const count = (index: number): number => Number(loaded.counter(index).packets);
      const rule = (counter: number): number => count(SYSTEM_COUNTERS + firstCounter + counter);
      /** What moved: accepted by the rule, dropped by the policy, dropped as a stray fragment; nothing: it followed. */
      const send = (fragment: Fragment): string => {
        const read = (): number[] => [
          rule(rules.rules[0]!.counter),
          rule(rules.policy!.counter),
          count(SystemCounter.fragments),
          count(SystemCounter.malformed),
        ];
        const before = read();
        const bytes = packet(family, fragment, sent);
        if (sender === undefined) tap.inject(bytes);
        else sender.send(bytes, addressBytes(SOURCE[family]), 0);
        const moved = read().map((now, index) => now - before[index]!);
        return (
          ['rule', 'policy', 'stray', 'malformed'].filter((_, index) => moved[index] !== 0).join() ||
          'followed'
        );
      };
      const first = (id: number, port: number): string => send({ id, offset: 0, more: true, port });
      const later = (id: number): string => send({ id, offset: 24, more: false });

      // Before the first one: dropped. Behind it: as the first one.
      expect([later(1), first(1, OPEN_PORT), later(1), later(1)]).toEqual([
        'stray',
        'rule',
        'followed',
        'followed',
      ]);
      expect([first(2, CLOSED_PORT), later(2)]).toEqual(['policy', 'stray']);
      // Another datagram's first one says nothing of this.
      expect([first(3, OPEN_PORT), later(4), later(3)]).toEqual(['rule', 'stray', 'followed']);
      // The identification comes again, for a datagram that is refused.
      expect([first(3, CLOSED_PORT), later(3)]).toEqual(['policy', 'stray']);
      // Whole packets are not remembered.
      expect([send({ id: 5, offset: 0, more: false, port: OPEN_PORT }), later(5)]).toEqual(['rule', 'stray']);
    }),
  );
});
