import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { internetChecksum } from '../../wire/index.ts';
import { ManualClock } from '../clock.ts';
import { Conntrack, type ConntrackSettings, IPS, TCP_STATE_NAMES, type Tracking } from './index.ts';

const SYN = 2;
const ACK = 16;
const RST = 4;

/** An IPv4 packet between 10.0.0.1 and 10.0.0.2; side 1 answers. Transport checksums are not verified at local-out. */
function packet(protocol: number, side: 0 | 1, transport: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(20 + transport.length);
  bytes.set([
    0x45,
    0,
    0,
    bytes.length,
    0,
    1,
    0,
    0,
    64,
    protocol,
    0,
    0,
    10,
    0,
    0,
    1 + side,
    10,
    0,
    0,
    2 - side,
  ]);
  new DataView(bytes.buffer).setUint16(10, internetChecksum(bytes.subarray(0, 20)));
  bytes.set(transport, 20);
  return bytes;
}

function udp(side: 0 | 1, port = 1000): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, side === 0 ? port : 53);
  view.setUint16(2, side === 0 ? 53 : port);
  view.setUint16(4, 8);
  return packet(17, side, bytes);
}

function tcp(side: 0 | 1, flags: number, seq: number, ack: number, port = 1000): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, side === 0 ? port : 80);
  view.setUint16(2, side === 0 ? 80 : port);
  view.setUint32(4, seq);
  view.setUint32(8, ack);
  bytes[12] = 0x50;
  bytes[13] = flags;
  view.setUint16(14, 64_240);
  return packet(6, side, bytes);
}

class Bench {
  readonly clock = new ManualClock();
  readonly conntrack: Conntrack;

  constructor(settings: Partial<ConntrackSettings> = {}) {
    this.conntrack = new Conntrack({ clock: this.clock, settings });
  }

  /** Tracks; confirms unless the rules are to have dropped it. */
  send(bytes: Uint8Array, options: { zone?: number; dropped?: boolean } = {}): Tracking | 'drop' {
    const { zone = 0, dropped = false } = options;
    const tracking = this.conntrack.track({ family: 'ipv4', bytes, hook: 'local-out', zone });
    if (tracking !== 'drop' && !dropped) this.conntrack.confirm(tracking);
    return tracking;
  }

  state(bytes: Uint8Array, options: { zone?: number; dropped?: boolean } = {}): string {
    const tracking = this.send(bytes, options);
    return tracking === 'drop' ? 'drop' : tracking.state;
  }
}

/** Handshake from side 0. */
function open(bench: Bench, port = 1000): void {
  bench.send(tcp(0, SYN, 100, 0, port));
  bench.send(tcp(1, SYN | ACK, 500, 101, port));
  bench.send(tcp(0, ACK, 101, 501, port));
}

describe('confirmation', () => {
  test('a first packet that is dropped leaves no trace', () => {
    const bench = new Bench();
    expect(bench.state(udp(0), { dropped: true })).toBe('NEW');
    expect(bench.conntrack.size).toBe(0);
    expect(bench.state(udp(1), { dropped: true })).toBe('NEW');
    expect(bench.state(udp(0))).toBe('NEW');
    expect(bench.state(udp(1))).toBe('ESTABLISHED');
    expect(bench.state(udp(0))).toBe('ESTABLISHED');
    expect(bench.conntrack.size).toBe(1);
  });

  test('an answer makes the connection established even when rules drop it', () => {
    const bench = new Bench();
    bench.send(udp(0));
    bench.send(udp(1), { dropped: true });
    expect(bench.state(udp(0))).toBe('ESTABLISHED');
  });

  test('of two first packets with one tuple the second is refused', () => {
    const { conntrack } = new Bench();
    const track = (): Tracking =>
      conntrack.track({ family: 'ipv4', bytes: udp(0), hook: 'local-out' }) as Tracking;
    const [first, second] = [track(), track()];
    expect(conntrack.confirm(first)).toBe(true);
    expect(conntrack.confirm(second)).toBe(false);
  });
});

describe('timeouts', () => {
  test('UDP: 30 s, and 120 s as an assured stream once it talks both ways for two seconds', () => {
    const bench = new Bench();
    bench.send(udp(0));
    bench.clock.advance(29_996);
    expect(bench.state(udp(0))).toBe('NEW');
    bench.clock.advance(30_004);
    expect(bench.state(udp(1))).toBe('NEW');

    bench.send(udp(0));
    bench.clock.advance(2_100);
    bench.send(udp(0));
    const tracking = bench.send(udp(1)) as Tracking;
    expect(tracking.status & IPS.ASSURED).toBe(IPS.ASSURED);
    bench.clock.advance(119_000);
    expect(bench.state(udp(0))).toBe('ESTABLISHED');
  });

  test('TCP: each state has its own, and a SYN sent again does not prolong', () => {
    const bench = new Bench();
    const first = bench.send(tcp(0, SYN, 100, 0)) as Tracking;
    expect(first.expiresSec).toBe(120);
    bench.clock.advance(100_000);
    expect((bench.send(tcp(0, SYN, 100, 0)) as Tracking).expiresSec).toBe(20);
    const answer = bench.send(tcp(1, SYN | ACK, 500, 101)) as Tracking;
    expect(answer.expiresSec).toBe(60);
    const last = bench.send(tcp(0, ACK, 101, 501)) as Tracking;
    expect(last.expiresSec).toBe(432_000);
    expect(TCP_STATE_NAMES[last.connection!.tcp!.state]).toBe('ESTABLISHED');
    expect((bench.send(tcp(0, RST | ACK, 101, 501)) as Tracking).expiresSec).toBe(10);
  });

  test('a connection picked up in the middle lives five minutes until it is answered', () => {
    const bench = new Bench();
    expect((bench.send(tcp(0, ACK, 5, 7)) as Tracking).expiresSec).toBe(300);
  });
});

describe('settings', () => {
  test('without loose, nothing is picked up in the middle', () => {
    expect(new Bench({ tcpLoose: false }).state(tcp(0, ACK, 5, 7))).toBe('INVALID');
  });

  test('be_liberal lets segments outside the window pass', () => {
    const far = tcp(0, ACK, 0x7000_0000, 501);
    const strict = new Bench();
    open(strict);
    expect(strict.state(far)).toBe('INVALID');
    const liberal = new Bench({ tcpBeLiberal: true });
    open(liberal);
    expect(liberal.state(far)).toBe('ESTABLISHED');
  });

  test('checksums are verified at pre-routing unless switched off', () => {
    const bytes = udp(0);
    bytes[26] = 0x12;
    const ask = (checksum: boolean): unknown => {
      const { conntrack } = new Bench({ checksum });
      return (conntrack.track({ family: 'ipv4', bytes, hook: 'pre-routing' }) as Tracking).state;
    };
    expect(ask(true)).toBe('INVALID');
    expect(ask(false)).toBe('NEW');
  });
});

describe('zones', () => {
  test('the same tuple is another connection in another zone', () => {
    const bench = new Bench();
    bench.send(udp(0), { zone: 1 });
    expect(bench.state(udp(1), { zone: 2 })).toBe('NEW');
    expect(bench.state(udp(1), { zone: 1 })).toBe('ESTABLISHED');
    expect(bench.conntrack.size).toBe(2);
  });
});

describe('a full table', () => {
  test('never holds more than its maximum, and gives up what is not assured first', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 120 }), (ports) => {
        const bench = new Bench({ maximumEntries: 8 });
        open(bench, 7);
        for (const port of ports) {
          bench.send(udp(0, 2000 + port));
          expect(bench.conntrack.size).toBeLessThanOrEqual(8);
        }
        expect(bench.state(tcp(1, ACK, 501, 101, 7))).toBe('ESTABLISHED');
      }),
    );
  });

  test('drops a new connection when all are assured', () => {
    const bench = new Bench({ maximumEntries: 2 });
    open(bench, 1);
    open(bench, 2);
    expect(bench.state(udp(0))).toBe('drop');
    expect(bench.state(tcp(0, ACK, 101, 501, 1))).toBe('ESTABLISHED');
  });

  test('forgets what has ended', () => {
    const bench = new Bench({ maximumEntries: 2 });
    bench.send(udp(0, 1));
    bench.send(udp(0, 2));
    bench.clock.advance(31_000);
    expect(bench.state(udp(0, 3))).toBe('NEW');
    expect(bench.conntrack.size).toBe(1);
    expect([...bench.conntrack.entries()].map(({ original }) => original.sourcePort)).toEqual([3]);
  });
});

describe('any bytes', () => {
  test('are tracked or not, and never throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('ipv4' as const, 'ipv6' as const),
        fc.array(fc.uint8Array({ maxLength: 120 }), { maxLength: 8 }),
        (family, packets) => {
          const { conntrack } = new Bench();
          for (const bytes of packets) {
            const tracking = conntrack.track({ family, bytes, hook: 'pre-routing' });
            if (tracking !== 'drop') conntrack.confirm(tracking);
          }
        },
      ),
    );
  });
});
