/**
 * Packets a second through the whole path of the netstack (device, PRE_ROUTING, route, FORWARD, POST_ROUTING, device), with
 * conntrack and without, behind 0, 10 and 100 rules that do not match; and datagrams a second that are reassembled on it.
 *
 * Rounds are interleaved and the 10th percentile of each way counts, because machines change their speed. Prints JSON.
 *
 * Run: `npm run bench netstack-path`.
 */
import { StackTables } from '../../src/host/index.ts';
import { type Prefix, parsePrefix } from '../../src/net/index.ts';
import { ManualClock, NetworkStack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { internetChecksum } from '../../src/wire/index.ts';

const ROUNDS = 20;
const PACKETS = 2000;
const FRAGMENTS = 3;
const FLOWS = 64;

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}

/** A router between two networks with so many rules in FORWARD. */
function router(rules: number, conntrack: boolean): { stack: NetworkStack; sent: () => number } {
  let sent = 0;
  const stack = new NetworkStack({
    clock: new ManualClock(),
    random32: () => 0,
    devices: [{ name: 'eth0' }, { name: 'eth1' }],
    addresses: [
      { device: 'eth0', prefix: prefix('192.0.2.1/24') },
      { device: 'eth1', prefix: prefix('198.51.100.1/24') },
    ],
    routes: [],
    settings: { forwarding: { ipv4: true, ipv6: true } },
    ...(conntrack ? { conntrack: { checksum: false } } : {}),
    transmit: () => {
      sent++;
    },
  });
  if (rules > 0) {
    const lines = Array.from(
      { length: rules },
      (_, index) => `-A FORWARD -p tcp -m tcp --dport ${index + 1} -j DROP`,
    );
    const text = `*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n${lines.join('\n')}\nCOMMIT\n`;
    new StackTables(stack, parseRuleset(text, { file: 'bench', family: 'ipv4' }).ruleset);
  }
  return { stack, sent: () => sent };
}

/** UDP from one network to the other; `field` is the fragment word of the header. */
function datagram(flow: number, id: number, field: number, payload: number): Uint8Array {
  const packet = new Uint8Array(20 + payload);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, packet.length);
  view.setUint16(4, id & 0xffff);
  view.setUint16(6, field);
  view.setUint16(8, 0x4011);
  view.setUint32(12, 0xc0000202);
  view.setUint32(16, 0xc6336402);
  view.setUint16(10, internetChecksum(packet, 0, 20));
  if ((field & 0x1fff) === 0) {
    view.setUint16(20, 1024 + flow);
    view.setUint16(22, 53);
    view.setUint16(24, 8 + payload);
  }
  return packet;
}

interface Way {
  readonly name: string;
  readonly unit: 'packets' | 'datagrams';
  /** Does one round; how many of its unit went through. */
  run(): number;
}

function forwarding(rules: number, conntrack: boolean): Way {
  const { stack, sent } = router(rules, conntrack);
  const packets = Array.from({ length: FLOWS }, (_, flow) => datagram(flow, flow, 0, 100));
  return {
    name: `${rules} rules${conntrack ? ', conntrack' : ''}`,
    unit: 'packets',
    run() {
      const before = sent();
      for (let index = 0; index < PACKETS; index++)
        stack.receive({ family: 'ipv4', bytes: packets[index % FLOWS]! }, 'eth0');
      return sent() - before;
    },
  };
}

/** Datagrams of 4 KiB in three fragments, put together for conntrack and cut again on their way out. */
function reassembling(): Way {
  const { stack, sent } = router(0, true);
  let id = 0;
  return {
    name: 'reassembly and refragmentation',
    unit: 'datagrams',
    run() {
      const before = sent();
      for (let index = 0; index < PACKETS / FRAGMENTS; index++, id++) {
        for (let piece = 0; piece < FRAGMENTS; piece++) {
          const more = piece < FRAGMENTS - 1 ? 0x2000 : 0;
          const bytes = datagram(id % FLOWS, id, more | ((piece * 1400) / 8), 1400);
          stack.receive({ family: 'ipv4', bytes }, 'eth0');
        }
      }
      return (sent() - before) / FRAGMENTS;
    },
  };
}

const ways: readonly Way[] = [
  forwarding(0, false),
  forwarding(10, false),
  forwarding(100, false),
  forwarding(0, true),
  forwarding(10, true),
  forwarding(100, true),
  reassembling(),
];
const perUnitNs = new Map<string, number[]>(ways.map(({ name }) => [name, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const { name, run } of ways) {
    const start = performance.now();
    const count = run();
    perUnitNs.get(name)!.push(((performance.now() - start) * 1e6) / count);
  }
}
const results = ways.map(({ name, unit }) => {
  const sorted = perUnitNs.get(name)!.sort((a, b) => a - b);
  const ns = sorted[Math.floor(sorted.length / 10)]!;
  return { name, [`${unit}PerSec`]: Math.round(1e9 / ns), nsEach: Math.round(ns) };
});
console.log(JSON.stringify({ benchmark: 'netstack-path', rounds: ROUNDS, results }, undefined, 2));
