/** Sets of live policies against ipset and iptables-legacy: the same packets, the same counts, the same sets afterwards. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { INLINE_PAYS_RULES } from '../../src/compile/index.ts';
import { applyPolicy, livePolicies, liveSet, liveSets, removePolicies } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { formatElement, formatSet, parseEntry, parseSets } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { parsed, policyName } from '../support/live-policy.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { HEADERS, type PacketShape, packetFor } from '../support/set-packets.ts';
import { Tap } from '../support/tap.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 10 : 1;

interface Case {
  readonly family: Family;
  readonly create: string;
  readonly entries: readonly string[];
  /** Lines before. */
  readonly others?: readonly string[];
  readonly rules: readonly string[];
  readonly form?: 'code' | 'tables';
}

const V4: readonly Case[] = [
  {
    family: 'ipv4',
    create: 'hash:ip counters',
    entries: ['10.0.0.1', '10.0.1.2'],
    rules: [
      '-m set --match-set s src',
      '-j SET --add-set s dst',
      '-m set ! --match-set s dst --packets-gt 1',
    ],
  },
  {
    family: 'ipv4',
    create: 'hash:net counters',
    entries: ['10.0.0.0/24', '10.0.0.3 nomatch', '10.1.0.0/16'],
    rules: [
      '-m set --match-set s src',
      '-m set --match-set s src --return-nomatch',
      '-j SET --add-set s dst --exist',
    ],
  },
  {
    family: 'ipv4',
    create: 'hash:ip,port counters maxelem 6',
    entries: ['10.0.0.1,tcp:80', '10.0.1.2,icmp:echo-request', '10.0.0.3,gre:0'],
    rules: [
      '-m set --match-set s src,dst',
      '-m set --match-set s src,src',
      '-j SET --add-set s dst,dst',
      '-m set --match-set s dst,dst',
    ],
  },
  {
    family: 'ipv4',
    create: 'hash:ip,port bitmask 255.0.0.1',
    entries: ['10.0.0.1,tcp:80'],
    rules: ['-m set --match-set s src,dst', '-j SET --add-set s dst,src', '-m set --match-set s dst,src'],
  },
  {
    family: 'ipv4',
    create: 'hash:net,port',
    entries: ['10.0.0.0/24,udp:53', '10.0.0.0/16,tcp:80 nomatch', '10.0.0.0/8,tcp:80'],
    rules: ['-m set --match-set s src,dst', '-j SET --add-set s src,src', '-m set --match-set s src,src'],
  },
  {
    family: 'ipv4',
    create: 'hash:ip,port,ip',
    entries: ['10.0.0.1,tcp:80,10.0.0.1'],
    rules: [
      '-m set --match-set s src,dst,dst',
      '-j SET --add-set s src,dst,dst',
      '-j SET --del-set s dst,src,src',
    ],
  },
  {
    family: 'ipv4',
    create: 'hash:ip,port,net counters',
    entries: ['10.0.0.1,tcp:80,10.0.0.0/24', '10.0.0.1,tcp:80,10.0.0.5 nomatch'],
    rules: [
      '-m set --match-set s src,dst,dst',
      '-j SET --add-set s src,dst,dst',
      '-m set --match-set s src,dst,dst --bytes-gt 100',
    ],
  },
  {
    family: 'ipv4',
    create: 'hash:net,iface',
    entries: ['10.0.0.0/16,t0', '10.1.0.0/16,eth9'],
    rules: ['-m set --match-set s src,src', '-m set --match-set s src,dst', '-j SET --add-set s dst,src'],
  },
  {
    family: 'ipv4',
    create: 'bitmap:ip range 10.0.0.0-10.0.0.255 counters',
    entries: ['10.0.0.1'],
    rules: ['-m set --match-set s src', '-j SET --add-set s dst', '-j SET --del-set s src'],
  },
  {
    family: 'ipv4',
    create: 'bitmap:ip,mac range 10.0.0.0/16 counters comment',
    entries: [
      '10.0.0.1 comment "waits"',
      '10.0.1.2',
      '10.0.0.3,02:00:00:00:00:01',
      '10.0.1.4,02:00:00:00:00:02',
    ],
    rules: [
      '-m set --match-set s src,src',
      '-m set --match-set s src,src --packets-gt 1',
      '-j SET --add-set s dst,src',
      '-m set ! --match-set s dst,src ! --update-counters',
      '-j SET --del-set s src,src',
    ],
  },
  {
    family: 'ipv4',
    create: 'bitmap:ip,mac range 10.0.0.0/16 timeout 1000',
    entries: ['10.0.0.1', '10.0.1.2 timeout 5000', '10.0.0.3 timeout 0', '10.0.0.5,02:00:00:00:00:01'],
    rules: [
      '-m set --match-set s src,src',
      '-j SET --add-set s dst,src --timeout 7000',
      '-p udp -j SET --add-set s src,src --exist --timeout 3000',
    ],
  },
  {
    family: 'ipv4',
    create: 'bitmap:port range 0-99',
    entries: ['80'],
    rules: ['-m set --match-set s dst', '-j SET --add-set s src', '-m set --match-set s src'],
  },
  {
    family: 'ipv6',
    create: 'hash:ip family inet6 counters',
    entries: ['2001:db8::1'],
    rules: [
      '-m set --match-set s src',
      '-j SET --add-set s dst',
      '-m set --match-set s dst ! --update-counters',
    ],
  },
  {
    family: 'ipv6',
    create: 'hash:net,port family inet6 counters',
    entries: ['2001:db8::/48,tcp:80', '2001:db8::/32,ipv6-icmp:echo-request'],
    rules: ['-m set --match-set s src,dst', '-j SET --add-set s src,src', '-m set --match-set s src,src'],
  },
];

const LISTS: readonly Case[] = [
  {
    family: 'ipv4',
    create: 'list:set',
    others: [
      'create one hash:ip maxelem 2 counters',
      'add one 10.0.0.1',
      'create nets hash:net counters',
      'add nets 10.0.0.0/24',
      'add nets 10.0.0.3 nomatch',
      'create ports hash:ip,port maxelem 5',
      'create six hash:ip family inet6',
    ],
    entries: ['one', 'six', 'nets before six', 'ports'],
    rules: [
      '-m set --match-set s src,dst',
      '-m set ! --match-set s src --return-nomatch',
      '-m set --match-set s dst ! --update-subcounters',
      '-m set --match-set s dst --packets-gt 3',
      '-j SET --add-set s src,dst',
      '-j SET --add-set s dst,src --exist',
      '-j SET --del-set s src,src',
    ],
  },
];

const shapes = fc.array(
  fc.record({
    ...HEADERS,
    fragment: fc.constant(0),
    mark: fc.constant(0),
    device: fc.constant('t0'),
    ethernet: fc.constant(undefined),
    /** The last byte of its source's MAC address; 0: that is all zeros. */
    neighbour: fc.constantFrom(1, 1, 2, 0),
  }),
  { minLength: 60, maxLength: 60 },
);

/** Rules that no packet fits, so many that the chain becomes tables. */
const OTHERS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: Array.from({ length: INLINE_PAYS_RULES }, (_, at) => `-s 192.0.2.${at + 1} -j DROP`),
  ipv6: Array.from({ length: INLINE_PAYS_RULES }, (_, at) => `-s 2001:db8:ffff::${at + 1} -j DROP`),
};

/** Types that are tried as tables in the short run, too. */
const AS_TABLES = /^hash:(net|ip,port|net,port family inet6) counters/;

const CASES: readonly Case[] = [...V4, ...LISTS].flatMap((one) => [
  { ...one, form: 'code' as const },
  ...(SOAK > 1 || AS_TABLES.test(one.create)
    ? [
        {
          ...one,
          form: 'tables' as const,
          rules: [...OTHERS[one.family], ...one.rules],
        },
      ]
    : []),
]);

function fileOf({ rules }: Case): string {
  return `*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${rules.map((rule) => `-A PREROUTING ${rule}\n`).join('')}COMMIT\n`;
}

function setsOf({ others = [], create, entries }: Case): string {
  return [...others, `create s ${create}`, ...entries.map((entry) => `add s ${entry}`), ''].join('\n');
}

function send(
  tap: Tap,
  family: Family,
  packets: readonly (PacketShape & { readonly neighbour: number })[],
): void {
  for (const shape of packets) {
    const source = Uint8Array.of(shape.neighbour === 0 ? 0 : 2, 0, 0, 0, 0, shape.neighbour);
    tap.inject(packetFor(family, shape), { source });
  }
}

/** Lines of the set, in one order, without what is the kernel's own; times to the next hundred seconds, for they run meanwhile. */
function elementsIn(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('add '))
    .map((line) =>
      line.trim().replace(/(?<= timeout )[0-9]+/, (left) => `${Math.ceil(Number(left) / 100) * 100}`),
    )
    .sort();
}

function realCounts(host: Host, family: Family): string[] {
  const command = family === 'ipv4' ? 'iptables-legacy-save' : 'ip6tables-legacy-save';
  return host
    .exec(command, ['-c', '-t', 'raw'])
    .split('\n')
    .filter((line) => line.startsWith('['))
    .map((line) => line.slice(1, line.indexOf(']')));
}

const SENDERS = 3;
/** Sends a datagram to each port, in an order of its own. */
const SENDER = `
const [ports, number] = process.argv.slice(1).map(Number);
const socket = require('node:dgram').createSocket('udp4');
socket.bind(0, '127.0.0.1', () => {
  let left = ports;
  const step = [1, 7, 11][number];
  for (let at = 0; at < ports; at++)
    socket.send('x', 20000 + ((at * step + number * 97) % ports), '127.0.0.1', () => --left === 0 && socket.close());
});
`;

describeKernel('sets of live policies', () => {
  test.each(CASES)('$family $create as $form: as ipset', (one) =>
    withNamespaces(['real', 'ours'], async ({ real, ours }) => {
      const policy = policyName();
      const { family } = one;
      const address = family === 'ipv4' ? '10.0.0.1/8' : '2001:db8::1/32';
      const taps = [real, ours].map((host) => Tap.open(host, 't0', address)) as [Tap, Tap];
      const read = parseSets(setsOf(one), { file: 'sets' });
      expect(read.diagnostics).toEqual([]);
      try {
        real.exec('ipset', ['restore'], { input: setsOf(one) });
        const restore = family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
        real.exec(restore, [], { input: fileOf(one) });
        await applyPolicy({
          policy,
          rulesets: [parsed(fileOf(one), family)],
          hooks: ['netfilter'],
          namespaces: [ours.netnsName],
          sets: read.sets,
        });
        for (const [round, packets] of fc.sample(shapes, SOAK).entries()) {
          for (const tap of taps) send(tap, family, packets);
          const [live] = livePolicies({ policy });
          const counted = live!.rulesets[0]!.tables[0]!.chains[0]!.rules.map(
            ({ counters }) => `${counters.packets}:${counters.bytes}`,
          );
          expect(counted, `round ${round}`).toEqual(realCounts(real, family));
          const saved = await liveSets({ policy }, (sets) =>
            sets.map(({ definition, table }) => formatSet({ definition, elements: [...table.elements()] })),
          );
          expect(elementsIn(saved.join('')), JSON.stringify(packets)).toEqual(
            elementsIn(real.exec('ipset', ['save'])),
          );
        }
      } finally {
        await removePolicies({ policy }).catch(() => []);
        real.exec('iptables-legacy', ['-t', 'raw', '-F'], { allowFailure: true });
        real.exec('ip6tables-legacy', ['-t', 'raw', '-F'], { allowFailure: true });
        real.exec('ipset', ['destroy'], { allowFailure: true });
      }
    }),
  );

  test('what ipset saves is read and printed as it was', () =>
    withNamespaces(['real'], ({ real }) => {
      const lines = [
        'create a hash:ip,port timeout 0 counters comment skbinfo',
        'add a 10.0.0.1,icmp:3/15 timeout 900 comment "of a host"',
        'add a 10.0.0.1,icmp:7/1 packets 5 bytes 700 skbmark 0x5/0xff skbprio 1:10 skbqueue 3',
        'add a 10.0.0.2,udplite:9 skbmark 0x5',
        'create n hash:net family inet6 maxelem 100',
        'add n 2001:db8::/33 nomatch',
        'create m hash:ip netmask 24 hashsize 64',
        'add m 10.9.8.7',
        'create k hash:ip bitmask 255.255.0.255 timeout 0 comment',
        'add k 10.9.8.7',
        'create l hash:ip family inet6 bitmask ffff::ffff',
        'add l 2001:db8::1',
        'create o hash:ip,port netmask 24 counters',
        'add o 10.9.8.7,tcp:80',
        'create q hash:ip,port bitmask 255.0.255.0',
        'add q 10.9.8.7,tcp:80',
        'create r hash:ip netmask 32',
        'create s bitmap:ip,mac range 10.0.0.0/24 timeout 0 counters skbinfo comment',
        'add s 10.0.0.1',
        'add s 10.0.0.2,02:00:00:00:00:0a timeout 900 packets 3 bytes 7 comment "of a host"',
        'create i hash:net,iface',
        'add i 0.0.0.0/0,eth0',
        'create b bitmap:ip range 10.0.0.0/16 netmask 24 timeout 700',
        'add b 10.0.1.7',
        'create p bitmap:port range 0-1024',
        'add p 10-20',
      ];
      real.exec('ipset', ['restore'], { input: `${lines.join('\n')}\n` });
      const saved = real.exec('ipset', ['save']);
      const read = parseSets(saved, { file: 'saved' });
      expect(read.diagnostics).toEqual([]);
      expect(read.sets.map((set) => formatSet(set)).join('')).toBe(saved);
      real.exec('ipset', ['destroy']);
    }));

  test(
    'packets on several CPUs add to sets while user space adds, deletes and lists: every key once, every room given back',
    () =>
      withNamespaces(['host'], async ({ host }) => {
        const policy = policyName();
        const ports = 1500 * SOAK;
        const few = 300;
        const text = [
          'create seen hash:ip,port maxelem 65536 counters',
          `create brief hash:ip,port timeout 1 maxelem ${few}`,
          `create few hash:ip,port maxelem ${few}`,
          '',
        ].join('\n');
        const { sets } = parseSets(text, { file: 'sets' });
        const rules = [
          '-A INPUT -p udp -j SET --add-set seen src,dst',
          '-A INPUT -p udp -m set --match-set seen src,dst',
          '-A INPUT -p udp -j SET --add-set brief src,dst --exist',
          '-A INPUT -p udp -j SET --add-set few src,dst',
        ];
        const table = `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${rules.join('\n')}\nCOMMIT\n`;
        const senders: ChildProcess[] = [];
        try {
          await applyPolicy({
            policy,
            rulesets: [parsed(table)],
            hooks: ['netfilter'],
            namespaces: [host.netnsName],
            sets,
          });
          // What is sent to the own host is through INPUT, on the sender's CPU, when the call returns.
          for (let number = 0; number < SENDERS; number++) {
            const words = [`--net=/run/netns/${host.netnsName}`, process.execPath, '-e', SENDER];
            senders.push(
              spawn('nsenter', [...words, String(ports), String(number)], {
                stdio: ['ignore', 'pipe', 'inherit'],
              }),
            );
          }
          const ended = senders.map((sender) => once(sender, 'close'));
          let running = true;
          const all = Promise.all(ended).then(() => {
            running = false;
          });
          const key = (turn: number): number[] => parseEntry(sets[0]!.definition, `10.0.0.1,udp:${turn}`)[0]!;
          const stays: number[] = [];
          for (let turn = 1; running && turn < 50_000; turn++) {
            await liveSets({ policy }, (live) => {
              const [seen, brief, full] = live;
              expect(seen!.table.add({ key: key(turn) }, false)).toBe('added');
              if (turn % 3 === 0) stays.push(turn);
              else expect(seen!.table.delete(key(turn))).toBe(true);
              const listed = Array.from(seen!.table.elements(), (element) => element.key.join());
              const there = new Set(listed);
              expect(stays.filter((one) => !there.has(key(one).join()))).toEqual([]);
              expect(brief!.table.count).toBeLessThanOrEqual(few + SENDERS);
              // Whoever takes one out and puts one in has packets against it that want the place.
              const [victim] = full!.table.elements();
              if (victim !== undefined) full!.table.delete(victim.key);
              full!.table.add({ key: key(turn) }, false);
              expect([...full!.table.elements()].length).toBeLessThanOrEqual(few);
            });
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
          await all;
          const counted = livePolicies({ policy })[0]!.rulesets[0]!.tables[0]!.chains[0]!.rules.map(
            ({ counters }) => counters.packets,
          );
          const sent = BigInt(ports * SENDERS);
          expect(counted).toEqual([sent, sent, sent, sent]);
          const wanted = new Set([
            ...Array.from({ length: ports }, (_, at) => `add seen 127.0.0.1,udp:${20_000 + at}`),
            ...stays.map((turn) => `add seen 10.0.0.1,udp:${turn}`),
          ]);
          await liveSet({ policy }, 'seen', ({ definition, table: seen }) => {
            const elements = [...seen.elements()];
            const packets = elements.reduce((sum, element) => sum + element.packets!, 0n);
            // The packet that made an entry, and each that was found in it afterwards.
            expect(packets).toBe(sent + BigInt(ports));
            const found = elements.map((element) =>
              formatElement(definition, element).replace(/ packets .*/, ''),
            );
            expect(found.length).toBe(wanted.size);
            expect(new Set(found)).toEqual(wanted);
            expect(seen.count).toBe(wanted.size);
            seen.flush();
            expect(seen.count).toBe(0);
          });
          await liveSet({ policy }, 'few', ({ table: full }) => {
            // Every place that was given back can be taken again.
            for (let turn = 50_001; turn < 50_001 + few; turn++) full.add({ key: key(turn) }, false);
            const keys = Array.from(full.elements(), (element) => element.key.join());
            expect([full.count, keys.length, new Set(keys).size]).toEqual([few, few, few]);
          });
          const deadline = Date.now() + LONG_MS;
          let left = 1;
          while (left > 0 && Date.now() < deadline) {
            await liveSet({ policy }, 'brief', ({ table: brief }) => {
              brief.sweep();
              left = brief.count;
            });
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          expect(left).toBe(0);
        } finally {
          for (const sender of senders) sender.kill();
          await removePolicies({ policy }).catch(() => []);
        }
      }),
    120_000,
  );

  test('every hook looks sets up and adds to them; entries change under traffic, and no packet sees a mixture', () =>
    withNamespaces(['host'], async ({ host }) => {
      const policy = policyName();
      const tap = Tap.open(host, 't0', '10.0.0.1/8');
      const read = parseSets('create s hash:ip,port\ncreate seen hash:ip counters timeout 600\n', {
        file: 'sets',
      });
      const rules = parsed(
        '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -m set --match-set s src,dst -j DROP\n-A INPUT -j SET --add-set seen src --exist\nCOMMIT\n',
      );
      try {
        await applyPolicy({
          policy,
          rulesets: [rules],
          hooks: ['netfilter', 'xdp', 'tcx-ingress'],
          devices: ['t0'],
          namespaces: [host.netnsName],
          sets: read.sets,
        });
        const packet: PacketShape = {
          source: 3,
          destination: 1,
          protocol: 17,
          sourcePort: 53,
          destinationPort: 53,
          cut: 40,
          fragment: 0,
          mark: 0,
          device: 't0',
          ethernet: undefined,
        };
        const dropped = (): bigint =>
          livePolicies({ policy })[0]!.rulesets[0]!.tables[0]!.chains[0]!.rules[0]!.counters.packets;
        const entry = (text: string) => parseEntry(read.sets[0]!.definition, text)[0]!;
        let wanted = 0n;
        for (let turn = 0; turn < 20; turn++) {
          await liveSet({ policy }, 's', ({ table }) => {
            // Neighbours come and go in the same table.
            for (let other = 0; other < 300; other++)
              table.add({ key: entry(`10.7.${turn}.${other % 250},udp:53`) }, true);
            if (turn % 2 === 0) expect(table.add({ key: entry('10.0.0.3,udp:53') }, false)).toBe('added');
            else expect(table.delete(entry('10.0.0.3,udp:53'))).toBe(true);
          });
          for (let sent = 0; sent < 5; sent++) tap.inject(packetFor('ipv4', packet));
          if (turn % 2 === 0) wanted += 5n;
          expect(dropped()).toBe(wanted);
        }
        const seen = await liveSet({ policy }, 'seen', ({ definition, table }) =>
          Array.from(table.elements(), (element) => formatElement(definition, element)),
        );
        expect(seen).toEqual([
          expect.stringMatching(/^add seen 10\.0\.0\.3 timeout (600|59\d) packets 1 bytes 60$/),
        ]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
