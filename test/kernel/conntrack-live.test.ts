/**
 * Connection tracking against the running kernel: random conversations go through a namespace that forwards, with a rule
 * for each state, direction and status; after each packet the netstack's conntrack must say the same, and at the end the
 * tables must hold the same connections.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import {
  Conntrack,
  type Entry,
  IPS,
  TCP_STATE_NAMES,
  type Tracking,
} from '../../src/netstack/conntrack/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import type { Shape } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { LiveFirewall } from '../support/live-firewall.ts';
import { type Host, withNamespaces } from '../support/netns.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const CONVERSATIONS = 150 * SOAK;

const STATES = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'] as const;
const CONDITIONS = [
  ...STATES.map((state) => `--ctstate ${state}`),
  '--ctdir REPLY',
  '--ctstatus SEEN_REPLY',
  '--ctstatus ASSURED',
  '--ctstatus CONFIRMED',
];
const RULES = [
  '*raw',
  ':PREROUTING ACCEPT [0:0]',
  ':OUTPUT DROP [0:0]',
  'COMMIT',
  '*filter',
  ':INPUT ACCEPT [0:0]',
  ':FORWARD ACCEPT [0:0]',
  ':OUTPUT ACCEPT [0:0]',
  ...CONDITIONS.map((condition) => `-A FORWARD -m conntrack ${condition}`),
  'COMMIT',
  '',
].join('\n');

const DAY_S = 86_400;
const TIMED_STATES = [
  'syn_sent',
  'syn_recv',
  'fin_wait',
  'close_wait',
  'last_ack',
  'time_wait',
  'close',
  'max_retrans',
  'unacknowledged',
];

/** The conditions that hold for a packet, in the words of the rules. */
function said(tracking: Tracking): string[] {
  const { status } = tracking;
  return [
    `--ctstate ${tracking.state}`,
    ...(tracking.direction === 'reply' ? ['--ctdir REPLY'] : []),
    ...((status & IPS.SEEN_REPLY) !== 0 ? ['--ctstatus SEEN_REPLY'] : []),
    ...((status & IPS.ASSURED) !== 0 ? ['--ctstatus ASSURED'] : []),
    ...((status & IPS.CONFIRMED) !== 0 ? ['--ctstatus CONFIRMED'] : []),
  ];
}

/** The conditions whose rules in FORWARD have moved since `before`. */
function moved(before: readonly string[], after: readonly string[]): string[] {
  return after
    .filter((line) => line.startsWith('filter FORWARD ') && !before.includes(line))
    .map((line) => Number(line.split(' ')[2]))
    .filter((rule) => !Number.isNaN(rule))
    .sort((a, b) => a - b)
    .map((rule) => CONDITIONS[rule - 1]!);
}

/** TCP connections of the kernel's table: state, ports, assured. */
function kernelTable(host: Host, family: Family): string[] {
  const listing = host.exec('conntrack', ['-L', '-p', 'tcp', '-f', family], { allowFailure: true });
  return listing
    .split('\n')
    .filter((line) => line.startsWith('tcp'))
    .map((line) => {
      const state = line.split(/\s+/)[3];
      const [, from, to] = /sport=(\d+) dport=(\d+)/.exec(line) ?? [];
      return `${state} ${from} ${to}${line.includes('[ASSURED]') ? ' assured' : ''}`;
    })
    .sort();
}

function ownTable(entries: Iterable<Entry>): string[] {
  return [...entries]
    .filter(({ tcp }) => tcp !== undefined)
    .map(({ tcp, original, status }) => {
      const assured = (status & IPS.ASSURED) !== 0 ? ' assured' : '';
      return `${TCP_STATE_NAMES[tcp!.state]} ${original.sourcePort} ${original.destinationPort}${assured}`;
    })
    .sort();
}

function describeShape({ transport, inDevice, payloadBytes }: Shape): string {
  const fields = JSON.stringify(transport, (_, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
  );
  return `${inDevice} ${fields} +${payloadBytes}`;
}

describeKernel('conversations through the kernel and through the netstack', () => {
  test.each(['ipv4', 'ipv6'] as const)(
    '%s: same state, direction and status after every packet',
    async (family) => {
      let packets = 0;
      await withNamespaces(['fw'], ({ fw }) => {
        const firewall = new LiveFirewall(fw);
        firewall.load(family, RULES);
        // On neither side any time passes: a crowded machine may take longer for a step than a closed connection is kept.
        for (const state of TIMED_STATES) fw.sysctl(`net/netfilter/nf_conntrack_tcp_timeout_${state}`, DAY_S);
        const property = fc.property(conversation(family), (shapes) => {
          fw.exec('conntrack', ['-F'], { allowFailure: true });
          const conntrack = new Conntrack({ clock: { nowMs: () => 0 } });
          const history: string[] = [];
          let before = firewall.counters();
          for (const shape of shapes) {
            const { bytes } = firewall.inject(shape);
            const after = firewall.counters();
            const tracking = conntrack.track({ family, bytes, hook: 'pre-routing' });
            if (tracking === 'drop') throw new Error('the table is full');
            history.push(describeShape(shape));
            expect(said(tracking), history.join('\n')).toEqual(moved(before, after));
            conntrack.confirm(tracking);
            before = after;
            packets++;
          }
          expect(ownTable(conntrack.entries()), history.join('\n')).toEqual(kernelTable(fw, family));
        });
        fc.assert(property, { numRuns: CONVERSATIONS });
      });
      console.log(`${family}: ${packets} packets of ${CONVERSATIONS} conversations compared`);
    },
  );
});
