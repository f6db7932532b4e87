/**
 * Reassembly live: the same random trains of fragments go into a scratch namespace and into the netstack, which must deliver
 * the same datagrams byte for byte, answer with the same ICMP errors and count the same. Once as a host, once with a
 * netfilter link that asks for defragmentation.
 */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { attachNetfilter, type Fd, NetfilterHook } from '../../src/kernel/index.ts';
import { AF_INET, AF_INET6, openSocket, receive, SOCK_RAW } from '../../src/kernel/sys/socket.ts';
import { internetChecksum } from '../../src/wire/index.ts';
import { DefragHost } from '../netstack/defrag-host.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { CountingProgram } from '../support/program.ts';
import { Tap } from '../support/tap.ts';

const PROTOCOL = 253;
const RUNS = process.env.SLUICE_SOAK ? 20_000 : 250;
const NF_ACCEPT = 1;

type Family = 4 | 6;

/** One fragment of a train. */
interface Piece {
  readonly flow: number;
  /** Units of 8 bytes. */
  readonly offset: number;
  readonly length: number;
  readonly more: boolean;
  readonly fill: number;
  readonly dsField: number;
  readonly df: boolean;
  readonly variant: number;
}

const piece: fc.Arbitrary<Piece> = fc.record({
  flow: fc.integer({ min: 0, max: 2 }),
  offset: fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 0, max: 8 }) },
    { weight: 1, arbitrary: fc.integer({ min: 8180, max: 8191 }) },
  ),
  length: fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 1, max: 5 }).map((units) => units * 8) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 40 }) },
  ),
  more: fc.boolean(),
  fill: fc.integer({ min: 1, max: 255 }),
  dsField: fc.oneof(
    { weight: 6, arbitrary: fc.constant(2) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) },
  ),
  df: fc.boolean(),
  variant: fc.integer({ min: 0, max: 15 }),
});

/** A datagram cut properly, in any order, with something missing or done twice now and then. */
const properTrain: fc.Arbitrary<Piece[]> = fc
  .tuple(
    fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 8 }),
    fc.integer({ min: 0, max: 7 }),
    fc.integer({ min: 0, max: 2 }),
    piece,
    fc.integer({ min: 0, max: 3 }),
  )
  .chain(([units, tail, flow, model, spoil]) => {
    let offset = 0;
    const pieces = units.map((length, index) => {
      const last = index === units.length - 1;
      const made = {
        ...model,
        flow,
        offset,
        length: length * 8 + (last ? tail : 0),
        more: !last,
        fill: index + 1,
      };
      offset += length;
      return made;
    });
    const all = fc.shuffledSubarray(pieces, { minLength: pieces.length });
    if (spoil === 0) return fc.shuffledSubarray(pieces);
    return spoil === 1 ? fc.tuple(all, fc.shuffledSubarray(pieces)).map((parts) => parts.flat()) : all;
  });

const train: fc.Arbitrary<Piece[]> = fc
  .tuple(
    fc.array(properTrain, { minLength: 0, maxLength: 3 }),
    fc.array(piece, { minLength: 0, maxLength: 8 }),
    fc.infiniteStream(fc.nat()),
    fc.boolean(),
  )
  .map(([proper, wild, choices, mixed]) => {
    const trains = mixed ? [...proper, wild] : proper.length > 0 ? proper : [wild];
    const out: Piece[] = [];
    while (trains.some(({ length }) => length > 0)) {
      const left = trains.filter(({ length }) => length > 0);
      out.push(left[choices.next().value! % left.length]!.shift()!);
    }
    return out;
  });

function packetOf(family: Family, trial: number, spec: Piece): Uint8Array {
  const id = trial * 3 + spec.flow;
  const payload = new Uint8Array(spec.length).fill(spec.fill);
  return family === 4 ? ipv4Packet(spec, id & 0xffff, payload) : ipv6Packet(spec, id, payload);
}

function ipv4Packet(spec: Piece, id: number, payload: Uint8Array): Uint8Array {
  // An option that Linux does not know, and no-operations: nothing is written into them.
  const options = spec.variant === 1 ? Uint8Array.of(30, 4, 1, 2, 1, 1, 1, 1) : new Uint8Array();
  const headerLength = 20 + options.length;
  const trailer = spec.variant === 2 ? 6 : 0;
  const packet = new Uint8Array(headerLength + payload.length + trailer).fill(0xaa);
  const view = new DataView(packet.buffer);
  packet[0] = 0x40 | (headerLength / 4);
  packet[1] = spec.dsField;
  view.setUint16(2, headerLength + payload.length);
  view.setUint16(4, id);
  view.setUint16(6, (spec.df ? 0x4000 : 0) | (spec.more ? 0x2000 : 0) | spec.offset);
  packet.set([spec.variant === 3 ? 5 : 64, spec.variant === 4 ? 252 : PROTOCOL, 0, 0], 8);
  packet.set([192, 0, 2, 2, 192, 0, 2, 1], 12);
  packet.set(options, 20);
  view.setUint16(10, internetChecksum(packet, 0, headerLength));
  packet.set(payload, headerLength);
  return packet;
}

/** Extension headers before the fragment header, by variant: a padded hop-by-hop header, destination options. */
const PREFIXES: Readonly<Record<number, readonly [type: number, bytes: readonly number[]]>> = {
  1: [0, [44, 0, 1, 4, 0, 0, 0, 0]],
  2: [60, [44, 0, 1, 4, 0, 0, 0, 0]],
};
/** Upper protocols of first fragments that are checked for a whole header, and a nested fragment header. */
const NEXT_HEADERS: Readonly<Record<number, number>> = { 3: 6, 4: 17, 5: 60, 6: 44, 7: 59 };

function ipv6Packet(spec: Piece, id: number, payload: Uint8Array): Uint8Array {
  const [firstHeader, prefix] = PREFIXES[spec.variant] ?? [44, []];
  const packet = new Uint8Array(48 + prefix.length + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x60000000 | (spec.dsField << 20));
  view.setUint16(4, packet.length - 40);
  packet.set([firstHeader, 64], 6);
  packet.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], 8);
  packet.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 24);
  packet.set(prefix, 40);
  const at = 40 + prefix.length;
  packet[at] = NEXT_HEADERS[spec.variant] ?? PROTOCOL;
  view.setUint16(at + 2, (spec.offset << 3) | (spec.more ? 1 : 0));
  view.setUint32(at + 4, id);
  packet.set(payload, at + 8);
  return packet;
}

describeKernel('reassembly against this kernel', () => {
  let accept: CountingProgram;
  beforeAll(() => {
    accept = new CountingProgram('BPF_PROG_TYPE_NETFILTER', NF_ACCEPT);
  });
  afterAll(() => accept?.close());

  test.for([
    [4, 'plain'],
    [4, 'ct'],
    [6, 'plain'],
    [6, 'ct'],
  ] as const)('IPv%d, %s', ([family, mode]) =>
    withNamespaces(['d'], ({ d }) => {
      const live = new LiveHost(d, family);
      using _link =
        mode === 'ct'
          ? d.run(() =>
              attachNetfilter(accept.program, {
                family: family === 4 ? 'ipv4' : 'ipv6',
                hook: NetfilterHook.PRE_ROUTING,
                priority: 42,
                defragment: true,
              }),
            )
          : undefined;
      const twin = new DefragHost(mode);
      let trial = 1;
      fc.assert(
        fc.property(train, (pieces) => {
          trial++;
          for (const [step, spec] of pieces.entries()) {
            const packet = packetOf(family, trial, spec);
            live.inject(packet);
            twin.receive(packet.slice());
            expect(twinResult(twin), `step ${step}`).toEqual(live.take());
          }
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
      expect(live.memory()).toBe(twin.net.fragments.ipv4.memory + twin.net.fragments.ipv6.memory);
    }),
  );

  test.for([4, 6] as const)('IPv%d timeouts answer and count alike', (family) =>
    withNamespaces(['t'], async ({ t }) => {
      const live = new LiveHost(t, family);
      t.sysctl(family === 4 ? 'net/ipv4/ipfrag_time' : 'net/ipv6/ip6frag_time', 1);
      const twin = new DefragHost('plain');
      twin.net.fragments[family === 4 ? 'ipv4' : 'ipv6'].configure({ timeoutMs: 1000 });
      const base: Piece = {
        flow: 0,
        offset: 0,
        length: 16,
        more: true,
        fill: 7,
        dsField: 0,
        df: false,
        variant: 0,
      };
      for (const [trial, change] of [
        {},
        { offset: 1 },
        { length: 600, dsField: 0xb8 },
        { variant: 1 },
      ].entries()) {
        const packet = packetOf(family, trial + 1, { ...base, ...change });
        live.inject(packet);
        twin.receive(packet.slice());
      }
      live.take();
      twin.take();
      await new Promise((done) => setTimeout(done, 1300));
      twin.advance(1300);
      expect(twinResult(twin)).toEqual(live.take());
    }),
  );

  test('thresholds hold in a flood, to the byte', () =>
    withNamespaces(['f'], ({ f }) => {
      const live = new LiveHost(f, 4);
      f.sysctl('net/ipv4/ipfrag_low_thresh', 0);
      f.sysctl('net/ipv4/ipfrag_high_thresh', 100_000);
      const twin = new DefragHost('plain');
      twin.net.fragments.ipv4.configure({ lowThresh: 0, highThresh: 100_000, maxDist: 64 });
      for (let trial = 1; trial < 200; trial++) {
        const base: Piece = {
          flow: 0,
          offset: 0,
          length: 16,
          more: true,
          fill: 7,
          dsField: 0,
          df: false,
          variant: 0,
        };
        const packet = packetOf(4, trial, { ...base, length: (trial % 90) * 8 + 8 });
        live.inject(packet);
        twin.receive(packet.slice());
      }
      expect(twinResult(twin)).toEqual(live.take());
      expect(twin.net.fragments.ipv4.size).toBe(live.queues());
    }));
});

/** A namespace behind a TAP device, with raw sockets of protocol 253. */
class LiveHost {
  readonly #host: Host;
  readonly #tap: Tap;
  readonly #family: Family;
  readonly #socket: Fd;
  #before: Record<string, number>;

  constructor(host: Host, family: Family) {
    this.#host = host;
    this.#family = family;
    this.#tap = Tap.open(host, 'tap0', '192.0.2.1/24', '2001:db8::1/64');
    for (const [name, value] of [
      ['net/ipv4/icmp_ratelimit', 0],
      ['net/ipv6/icmp/ratelimit', 0],
      ['net/ipv4/icmp_msgs_per_sec', 1_000_000],
      ['net/ipv4/icmp_msgs_burst', 1_000_000],
      ['net/ipv6/conf/tap0/mldv2_unsolicited_report_interval', 100_000],
    ] as const)
      host.sysctl(name, value);
    host.exec('ip', ['neigh', 'replace', '192.0.2.2', 'lladdr', '02:00:00:00:00:77', 'dev', 'tap0']);
    host.exec('ip', ['neigh', 'replace', '2001:db8::2', 'lladdr', '02:00:00:00:00:77', 'dev', 'tap0']);
    this.#socket = host.keep(
      host.run(() => openSocket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW, PROTOCOL, 'raw socket')),
    );
    this.#before = this.#counters();
    this.#tap.drain();
  }

  inject(packet: Uint8Array): void {
    this.#tap.inject(packet);
  }

  take(): object {
    const delivered: string[] = [];
    const buffer = new Uint8Array(66_000);
    for (;;) {
      const length = receive(this.#socket, buffer, false);
      if (length === undefined) break;
      delivered.push(hex(buffer.subarray(0, length)));
    }
    const now = this.#counters();
    const counters = Object.fromEntries(
      Object.entries(now)
        .map(([name, value]) => [name, value - (this.#before[name] ?? 0)] as const)
        .filter(([, value]) => value !== 0),
    );
    this.#before = now;
    const icmp = this.#tap
      .take()
      .map((frame) => frame.subarray(14))
      .filter((packet) => isIcmpError(packet, this.#family));
    return { delivered, counters, icmp: icmp.map(maskChance).sort() };
  }

  /** Bytes charged to reassembly in this namespace, host queues of both families. */
  memory(): number {
    return this.#sockstat('memory');
  }

  queues(): number {
    return this.#sockstat('inuse');
  }

  #sockstat(field: string): number {
    const pattern = new RegExp(`FRAG6?: .*${field} (\\d+)`, 'g');
    const text = this.#read('sockstat') + this.#read('sockstat6');
    return [...text.matchAll(pattern)].reduce((sum, [, value]) => sum + Number(value), 0);
  }

  #counters(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const file of ['snmp', 'netstat']) {
      const lines = this.#read(file).split('\n');
      for (let at = 0; at + 1 < lines.length; at += 2) {
        const [prefix = '', ...names] = lines[at]!.split(' ');
        const values = lines[at + 1]!.split(' ').slice(1);
        for (const [index, name] of names.entries())
          all[prefix.replace(':', '') + name] = Number(values[index]);
      }
    }
    for (const line of this.#read('snmp6').split('\n')) {
      const [name = '', value] = line.split(/\s+/);
      if (name !== '') all[name] = Number(value);
    }
    return Object.fromEntries(Object.entries(all).filter(([name]) => COUNTED.has(name)));
  }

  #read(file: string): string {
    return this.#host.run(() => readFileSync(`/proc/thread-self/net/${file}`, 'utf8'));
  }
}

const COUNTED = new Set([
  'IpReasmTimeout',
  'IpReasmReqds',
  'IpReasmOKs',
  'IpReasmFails',
  'IpInHdrErrors',
  'IpExtReasmOverlaps',
  'IpExtInTruncatedPkts',
  'Ip6ReasmTimeout',
  'Ip6ReasmReqds',
  'Ip6ReasmOKs',
  'Ip6ReasmFails',
  'Ip6InHdrErrors',
  'Ip6InTruncatedPkts',
]);

function twinResult(twin: DefragHost): object {
  const { delivered, counters, icmp } = twin.take();
  return {
    delivered: delivered.filter(({ protocol }) => protocol === PROTOCOL).map(({ bytes }) => hex(bytes)),
    counters: Object.fromEntries(Object.entries(counters).filter(([name]) => COUNTED.has(name))),
    icmp: icmp.map(maskChance).sort(),
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Time exceeded and parameter problems; other protocols' unreachables are not reassembly's. */
function isIcmpError(packet: Uint8Array, family: Family): boolean {
  if (family === 4) return packet[0]! >> 4 === 4 && packet[9] === 1 && packet[20] === 11;
  return (
    packet[0]! >> 4 === 6 && packet[6] === 58 && (packet[40] === 3 || (packet[40] === 4 && packet[41] !== 1))
  );
}

/** Hides what the kernel draws by chance: IPv4 identification and the checksum over it, the IPv6 flow label. */
function maskChance(packet: Uint8Array): string {
  const text = hex(packet);
  if (text.startsWith('4')) return `${text.slice(0, 8)}....${text.slice(12, 20)}....${text.slice(24)}`;
  return `${text.slice(0, 3)}.....${text.slice(8)}`;
}
