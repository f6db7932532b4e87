/**
 * What rules ask of a packet's connection besides its state, against the running kernel's iptables: random conversations go
 * through a router whose rules stand in a netfilter program, in the machine's programs and in iptables, and move the same
 * counters.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compilePolicy, entryIndex, GENERATIONS_OFFSET, SYSTEM_COUNTERS } from '../../src/compile/index.ts';
import { kernelHz } from '../../src/host/policy/surroundings.ts';
import { attachNetfilter, enableConntrack } from '../../src/kernel/index.ts';
import { Conntrack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { describeKernel } from '../support/kernel.ts';
import { LiveFirewall } from '../support/live-firewall.ts';
import { MACHINE_HZ, MachinePolicy } from '../support/machine-policy.ts';
import { withNamespaces } from '../support/netns.ts';
import { LoadedPolicy } from '../support/policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const CONVERSATIONS = 60 * SOAK;

const ADDRESSES = {
  ipv4: ['10.7.0.2', '172.16.0.0/12', '10.0.0.0/8', '172.16.9.5'],
  ipv6: ['fd07::2', 'fd09::/16', 'fd07::/64', 'fd09:0:0:9::5'],
} as const;

const conditionsOf = (family: 'ipv4' | 'ipv6'): string[] => [
  ...['orig', 'repl'].flatMap((direction) =>
    ADDRESSES[family].flatMap((address) => [
      `--ct${direction}src ${address}`,
      `! --ct${direction}dst ${address}`,
    ]),
  ),
  '--ctproto 6',
  '! --ctproto 17',
  '--ctorigdstport 80',
  '! --ctorigsrcport 1:30500',
  '--ctreplsrcport 53:80',
  '! --ctrepldstport 20000:30400',
  '--ctstate ESTABLISHED --ctdir REPLY --ctproto 6 --ctrepldstport 1024:65535',
  '--ctstate INVALID --ctproto 6',
  '--ctstate ESTABLISHED --ctstatus CONFIRMED --ctexpire 0:400000',
  '--ctstate ESTABLISHED --ctstatus CONFIRMED ! --ctexpire 0:1',
];

describeKernel('fields of connections', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: the counters of iptables', async (family) => {
    const conditions = conditionsOf(family);
    const text = [
      '*raw',
      ':PREROUTING ACCEPT [0:0]',
      ':OUTPUT DROP [0:0]',
      'COMMIT',
      '*filter',
      ':FORWARD ACCEPT [0:0]',
      ...conditions.map((condition) => `-A FORWARD -m conntrack ${condition}`),
      '-A FORWARD -m connmark --mark 0/0xff',
      '-A FORWARD -m connmark ! --mark 0x1',
      'COMMIT',
      '',
    ].join('\n');
    const rules = conditions.length + 2;
    const { ruleset, diagnostics } = parseRuleset(text, { file: 'live', family });
    expect(diagnostics).toEqual([]);
    const options = { hooks: ['netfilter'], tables: ['filter'] } as const;
    const policy = compilePolicy([ruleset], { ...options, hz: kernelHz() });
    const machine = new MachinePolicy(compilePolicy([ruleset], { ...options, hz: MACHINE_HZ }), {
      clock: { ms: 1_000_000 },
    });
    const { ir, firstCounter } = policy.tables[0]!;
    const counters = ir.chains
      .get('FORWARD')!
      .rules.map(({ counter }) => SYSTEM_COUNTERS + firstCounter + counter);
    const place = entryIndex({ flavour: 'netfilter', group: 'filter', family, hook: 2 });
    let packets = 0;
    let lastPolicy: string | undefined = 'filter FORWARD policy 0:0';
    await withNamespaces(['fw'], ({ fw }) => {
      fw.run(() => enableConntrack('slc_ct'));
      const firewall = new LiveFirewall(fw);
      firewall.load(family, text);
      const loaded = fw.keep(new LoadedPolicy(policy, {}, 'only', [place]));
      loaded.enter(fw.cookie, GENERATIONS_OFFSET);
      const program = loaded.dispatchers.get(place)!;
      fw.keep(fw.run(() => attachNetfilter(program, { family, hook: 2, priority: 1 })));
      const lines = (read: (index: number) => { packets: bigint; bytes: bigint }): string[] =>
        counters.map((counter, index) => {
          const count = read(counter);
          return `filter FORWARD ${index + 1} ${count.packets}:${count.bytes}`;
        });
      const property = fc.property(conversation(family), (shapes) => {
        fw.exec('conntrack', ['-F'], { allowFailure: true });
        const conntrack = new Conntrack({ clock: { nowMs: () => performance.now() } });
        for (const shape of shapes) {
          const { bytes, inDevice } = firewall.inject(shape);
          packets++;
          const all = firewall.counters();
          const theirs = all.filter((line) => /^filter FORWARD \d/.test(line));
          const policyLine = all.find((line) => line.startsWith('filter FORWARD policy'));
          const forwarded = policyLine !== lastPolicy;
          lastPolicy = policyLine;
          const own = lines((index) => loaded.counter(index));
          const about = Buffer.from(bytes).toString('hex');
          expect(own.sort(), about).toEqual(theirs);
          const view = conntrack.track({ family, bytes, hook: 'pre-routing' });
          if (view === 'drop') throw new Error('the table is full');
          const outDevice = inDevice === 'eth0' ? 'eth1' : 'eth0';
          if (forwarded) machine.run(place, { family, bytes, hook: 2, inDevice, outDevice, conntrack: view });
          conntrack.confirm(view);
        }
        expect(lines((index) => machine.counter(index)).sort()).toEqual(
          lines((index) => loaded.counter(index)).sort(),
        );
      });
      fc.assert(property, { numRuns: CONVERSATIONS, endOnFailure: true });
      const moved = counters.filter((counter) => loaded.counter(counter).packets > 0n).length;
      expect(moved).toBeGreaterThan(rules / 2);
    });
    console.log(`${family}: ${packets} packets, ${rules} rules about connections`);
  });
});
