/**
 * Connection state at xdp, tcx ingress and on the way out, against the running kernel's own iptables. Random conversations go
 * through a router; rules about their states stand in a program at the devices and in iptables, and move the same counters.
 * Windows and checksums do not count for conntrack here, as they do not for a look-up.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  GENERATIONS_OFFSET,
  type HookName,
  type StrategyName,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import { netnsTables } from '../../src/host/policy/surroundings.ts';
import { attachTcx, attachXdp, enableConntrack } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { describeKernel } from '../support/kernel.ts';
import { LiveFirewall } from '../support/live-firewall.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';
import { LoadedPolicy } from '../support/policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const CONVERSATIONS = 50 * SOAK;

const CONDITIONS = [
  '-p tcp -m conntrack --ctstate ESTABLISHED',
  '-p tcp -m conntrack ! --ctstate ESTABLISHED',
  '-p tcp -m conntrack --ctstate NEW,RELATED,INVALID',
  '-p udp -m conntrack --ctstate ESTABLISHED',
  '-p udp -m conntrack --ctstate NEW,RELATED',
  '-p udp -m conntrack --ctstate INVALID',
  '-p udp -m state --state RELATED,ESTABLISHED,NEW',
];
const RULES = [
  '*mangle',
  ':PREROUTING ACCEPT [0:0]',
  ...CONDITIONS.map((condition) => `-A PREROUTING ${condition}`),
  'COMMIT',
  '*raw',
  ':PREROUTING ACCEPT [0:0]',
  ':OUTPUT DROP [0:0]',
  'COMMIT',
  '',
].join('\n');

function compile(family: Family, text: string, hook: HookName, strategy: StrategyName) {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'live', family });
  expect(diagnostics).toEqual([]);
  return compilePolicy([ruleset], { hooks: [hook], tables: ['mangle', 'filter'], strategy });
}

/** The policy's one program, at devices of the host. */
function attach(host: Host, policy: CompiledPolicy, devices: readonly string[]): LoadedPolicy {
  const { point } = policy.programs[0]!;
  const loaded = host.keep(new LoadedPolicy(policy, host.run(netnsTables)));
  loaded.enter(host.cookie, GENERATIONS_OFFSET);
  const dispatcher = loaded.dispatchers.get(entryIndex(point))!;
  for (const device of devices) {
    const { index: ifindex } = host.device(device);
    host.keep(
      host.run(() =>
        point.flavour === 'xdp'
          ? attachXdp(dispatcher, { ifindex, mode: 'generic' })
          : attachTcx(dispatcher, {
              ifindex,
              direction: point.flavour === 'tcx' ? point.direction : 'ingress',
            }),
      ),
    );
  }
  return loaded;
}

describeKernel('connection state by look-up', () => {
  test.each(
    (['xdp', 'tcx-ingress'] as const).flatMap((hook) =>
      (['inline', 'classifier'] as const).flatMap((strategy) =>
        (['ipv4', 'ipv6'] as const).map((family) => ({ hook, strategy, family })),
      ),
    ),
  )('$hook, $strategy, $family: the counters of iptables', async ({ hook, strategy, family }) => {
    let packets = 0;
    let established = 0n;
    await withNamespaces(['fw'], ({ fw }) => {
      const firewall = new LiveFirewall(fw);
      for (const [name, value] of [
        ['tcp_be_liberal', 1],
        ['tcp_ignore_invalid_rst', 1],
        ['checksum', 0],
      ] as const) {
        fw.run(() => enableConntrack('slc_ct'));
        fw.sysctl(`net/netfilter/nf_conntrack_${name}`, value);
      }
      firewall.load(family, RULES);
      const loaded = attach(fw, compile(family, RULES, hook, strategy), ['eth0', 'eth1']);
      const own = (): string[] =>
        CONDITIONS.map(
          (_, index) => `mangle PREROUTING ${index + 1} ${counterText(loaded, 'PREROUTING', index)}`,
        );
      const theirs = (): string[] => firewall.counters().filter((line) => /^mangle PREROUTING \d/.test(line));
      const property = fc.property(conversation(family), (shapes) => {
        fw.exec('conntrack', ['-F'], { allowFailure: true });
        const history: string[] = [];
        for (const shape of shapes) {
          const { bytes } = firewall.inject(shape);
          history.push(Buffer.from(bytes).toString('hex'));
          packets++;
          expect(own(), history.join('\n')).toEqual(theirs());
        }
      });
      fc.assert(property, { numRuns: CONVERSATIONS, endOnFailure: true });
      established = loaded.counter(SYSTEM_COUNTERS).packets;
    });
    expect(established).toBeGreaterThan(20n);
    console.log(`${hook} ${strategy} ${family}: ${packets} packets, ${established} of TCP connections`);
  });

  test.each(['xdp', 'tcx-ingress'] as const)('%s: sockets get answers, and nothing else', (hook) =>
    withPair(({ a, b }) => {
      b.run(() => enableConntrack('slc_ct'));
      const text = [
        '*filter',
        ':INPUT DROP [0:0]',
        '-A INPUT -p tcp -m conntrack --ctstate ESTABLISHED -j ACCEPT',
        '-A INPUT -p udp -m conntrack --ctstate ESTABLISHED -j ACCEPT',
        'COMMIT',
        '',
      ].join('\n');
      const loaded = attach(b, compile('ipv4', text, hook, 'inline'), ['a']);
      const listener = a.listen(0, a.ipv4);
      b.connect(a.ipv4, listener.port);
      expect(loaded.counter(SYSTEM_COUNTERS).packets).toBeGreaterThan(0n);
      const inner = b.listen(0, b.ipv4);
      expect(() => a.connect(b.ipv4, inner.port, 300)).toThrow();
      const server = a.udp();
      const client = b.udp();
      client.send(a.ipv4, server.port, 'question');
      expect(server.receiveText()).toBe('question');
      server.send(b.ipv4, client.port, 'answer');
      expect(client.receiveText()).toBe('answer');
      expect(loaded.counter(SYSTEM_COUNTERS + 1).packets).toBe(1n);
    }),
  );

  test.each(['inline', 'classifier'] as const)('tcx-egress, %s: what conntrack said in OUTPUT', (strategy) =>
    withPair(({ a, b }) => {
      const conditions = [
        ...['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'].map(
          (state) => `-m conntrack --ctstate ${state}`,
        ),
        '-m conntrack --ctdir REPLY',
      ];
      const rules = conditions.map((condition) => `-A OUTPUT ${condition}`);
      const text = ['*filter', ':OUTPUT ACCEPT [0:0]', ...rules, 'COMMIT', ''].join('\n');
      b.exec('iptables-legacy-restore', ['-w'], { input: text });
      const loaded = attach(b, compile('ipv4', text, 'tcx-egress', strategy), ['a']);
      const outside = a.listen(0, a.ipv4);
      const inside = b.listen(0, b.ipv4);
      b.connect(a.ipv4, outside.port);
      a.connect(b.ipv4, inside.port);
      const asker = a.udp();
      const answerer = b.udp();
      asker.send(b.ipv4, answerer.port, 'question');
      answerer.receiveText();
      answerer.send(a.ipv4, asker.port, 'answer');
      // Nobody listens: an ICMP error that belongs to the question.
      asker.send(b.ipv4, 9, 'question');
      const listing = b.exec('iptables-legacy', ['-w', '-nvxL', 'OUTPUT']).split('\n').slice(2);
      const theirs = conditions.map((_, index) => listing[index]!.trim().split(/\s+/).slice(0, 2).join(':'));
      const own = conditions.map((_, index) => counterText(loaded, 'OUTPUT', index));
      expect(own).toEqual(theirs);
      const counted = own.map((text) => text !== '0:0');
      expect(counted).toEqual([true, true, true, false, false, true]);
    }),
  );

  test('programs for sockets on their way out are taken by the kernel', () => {
    const text = '*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n';
    for (const strategy of ['inline', 'classifier'] as const) {
      using loaded = new LoadedPolicy(compile('ipv4', text, 'cgroup-egress', strategy));
      expect(loaded.programs.size).toBe(1);
    }
  });
});

function counterText(loaded: LoadedPolicy, chain: string, index: number): string {
  const { ir, firstCounter } = loaded.policy.tables[0]!;
  const rule = ir.chains.get(chain)!.rules[index]!;
  const { packets, bytes } = loaded.counter(SYSTEM_COUNTERS + firstCounter + rule.counter);
  return `${packets}:${bytes}`;
}
