import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jhash2, reciprocalScale } from '../../net/index.ts';
import { IpPacket, loadIpPacket, transportChecksumStatus, verifyIpv4Checksum } from '../../wire/index.ts';
import { ManualClock } from '../clock.ts';
import { Conntrack } from '../conntrack/conntrack.ts';
import { type Entry, IPS } from '../conntrack/entry.ts';
import { invert } from '../conntrack/tuple.ts';
import { NF_INET_POST_ROUTING, NF_INET_PRE_ROUTING, NFPROTO_IPV4 } from '../hooks/family.ts';
import type { NfHookState } from '../hooks/state.ts';
import { NF_ACCEPT, NF_DROP } from '../hooks/verdict.ts';
import { ETH_P_IP, SkBuff } from '../skb.ts';
import { settleNew } from './hook.ts';
import { Nat } from './nat.ts';
import type { NatRange } from './range.ts';

const CLIENT = Uint8Array.of(10, 0, 0, 2);
const SERVER = Uint8Array.of(192, 0, 2, 9);
const OUTSIDE = Uint8Array.of(198, 51, 100, 1);

function udp(source: Uint8Array, sport: number, destination: Uint8Array, dport: number): Uint8Array {
  const packet = new Uint8Array(28);
  packet.set([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
  packet.set(source, 12);
  packet.set(destination, 16);
  const view = new DataView(packet.buffer);
  view.setUint16(20, sport);
  view.setUint16(22, dport);
  view.setUint16(24, 8);
  return packet;
}

function newNat(random16: () => number = () => 0): Nat {
  return new Nat({
    conntrack: new Conntrack({ clock: new ManualClock(1000), settings: { checksum: false } }),
    random16,
  });
}

/** The first packet of a connection, translated at its source and confirmed; its entry. */
function open(nat: Nat, sport: number, range: NatRange, source: Uint8Array = CLIENT): Entry {
  const tracking = nat.conntrack.track({
    family: 'ipv4',
    bytes: udp(source, sport, SERVER, 53),
    hook: 'pre-routing',
  });
  if (tracking === 'drop') throw new Error('full');
  const entry = tracking.connection!;
  expect(nat.setup(entry, range, 'source')).toBe(NF_ACCEPT);
  expect(nat.conntrack.confirm(tracking)).toBe(true);
  return entry;
}

const to = (address: Uint8Array): NatRange => ({ addresses: { min: address, max: address } });

describe('the choice of a tuple', () => {
  it('keeps a port that is free, and a client its port towards others', () => {
    const entry = open(newNat(), 4000, to(OUTSIDE));
    expect(entry.reply).toMatchObject({ destination: OUTSIDE, destinationPort: 4000 });
    expect(entry.status & (IPS.SRC_NAT | IPS.SRC_NAT_DONE)).toBe(IPS.SRC_NAT | IPS.SRC_NAT_DONE);
  });

  it('looks for another port of the same class when two clients meet, from where chance says', () => {
    const nat = newNat(() => 5);
    open(nat, 4000, to(OUTSIDE));
    open(nat, 300, to(OUTSIDE));
    open(nat, 700, to(OUTSIDE));
    const other = Uint8Array.of(10, 0, 0, 3);
    expect(open(nat, 4000, to(OUTSIDE), other).reply.destinationPort).toBe(1024 + 5);
    expect(open(nat, 300, to(OUTSIDE), other).reply.destinationPort).toBe(1 + 5);
    expect(open(nat, 700, to(OUTSIDE), other).reply.destinationPort).toBe(600 + 5);
  });

  it('is unlike that of any other connection, for whatever clients and ports, while there are ports', () => {
    const clients = fc.array(
      fc.record({ host: fc.integer({ min: 2, max: 6 }), port: fc.integer({ min: 1, max: 8 }) }),
      { maxLength: 40 },
    );
    const range = { ...to(OUTSIDE), ports: { min: 7000, max: 7099, base: undefined } };
    fc.assert(
      fc.property(clients, fc.integer({ min: 0, max: 0xffff }), (list, chance) => {
        const nat = newNat(() => chance);
        const seen = new Map<string, string>();
        for (const { host, port } of list) {
          const entry = open(nat, port, range, Uint8Array.of(10, 0, 0, host));
          const chosen = entry.reply.destinationPort;
          expect(chosen >= 7000 && chosen <= 7099).toBe(true);
          const from = `${host}:${port}`;
          expect(seen.get(String(chosen)) ?? from).toBe(from);
          seen.set(String(chosen), from);
        }
      }),
    );
  });

  it('gives a destination the next port of a range in order, by its own', () => {
    const nat = newNat();
    const range = {
      addresses: { min: OUTSIDE, max: OUTSIDE },
      ports: { min: 8000, max: 8100, base: 50 },
    };
    const tracking = nat.conntrack.track({
      family: 'ipv4',
      bytes: udp(CLIENT, 1, SERVER, 53),
      hook: 'pre-routing',
    });
    if (tracking === 'drop') throw new Error('full');
    nat.setup(tracking.connection!, range, 'destination');
    expect(tracking.connection!.reply).toMatchObject({ source: OUTSIDE, sourcePort: 8003 });
  });

  it('refuses to settle an end twice, and forgets what has ended', () => {
    const nat = newNat();
    const tracking = nat.conntrack.track({
      family: 'ipv4',
      bytes: udp(CLIENT, 1, SERVER, 53),
      hook: 'pre-routing',
    });
    if (tracking === 'drop') throw new Error('full');
    const entry = tracking.connection!;
    expect(nat.setupNull(entry, 'source')).toBe(NF_ACCEPT);
    expect(nat.setup(entry, to(OUTSIDE), 'source')).toBe(NF_DROP);
    nat.conntrack.confirm(tracking);
    nat.conntrack.kill(entry);
    expect(open(nat, 1, to(OUTSIDE)).reply.destinationPort).toBe(1);
  });
});

describe('packets of a translated connection', () => {
  it('keep right checksums there and back, and come back as they were', () => {
    const ports = fc.integer({ min: 1, max: 0xffff });
    fc.assert(
      fc.property(ports, ports, fc.boolean(), (sport, dport, zeroChecksum) => {
        const nat = newNat();
        const bytes = udp(CLIENT, sport, SERVER, dport);
        const packet = new IpPacket();
        fill(bytes, zeroChecksum);
        const tracking = nat.conntrack.track({ family: 'ipv4', bytes, hook: 'pre-routing' });
        if (tracking === 'drop') throw new Error('full');
        const entry = tracking.connection!;
        nat.setup(entry, to(OUTSIDE), 'source');
        const skb = new SkBuff(bytes, { protocol: ETH_P_IP });
        expect(nat.translate(skb, entry, 'original', 'source')).toBe(NF_ACCEPT);
        expect([...skb.data.subarray(12, 16)]).toEqual([...OUTSIDE]);
        expect(verifyIpv4Checksum(skb.data)).toBe(true);
        loadIpPacket(packet, skb.data, 0);
        expect(transportChecksumStatus(packet)).toBe(zeroChecksum ? 'none' : 'good');
        // A connection that is translated the other way undoes it.
        const back: Entry = {
          ...entry,
          original: { ...entry.original, source: OUTSIDE },
          reply: invert(entry.original)!,
        };
        nat.translate(skb, back, 'original', 'source');
        expect([...skb.data]).toEqual([...bytes]);
      }),
    );
  });
});

function fill(bytes: Uint8Array, zeroChecksum: boolean): void {
  const view = new DataView(bytes.buffer);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(10, ~sum & 0xffff);
  if (zeroChecksum) return;
  sum = 17 + 8;
  for (let at = 12; at < 28; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(26, ~sum & 0xffff || 0xffff);
}

describe('the loop over the inner functions', () => {
  const state: NfHookState = {
    hook: NF_INET_POST_ROUTING,
    pf: NFPROTO_IPV4,
    in: undefined,
    out: undefined,
    sk: undefined,
    net: { dying: false },
    okfn: () => {},
  };

  it('ends with the first that settles or refuses; otherwise the connection is settled as it is', () => {
    const nat = newNat();
    const outcomes = fc.array(fc.constantFrom('accept', 'drop', 'settle'), { maxLength: 6 });
    let port = 1;
    fc.assert(
      fc.property(outcomes, (list) => {
        const tracking = nat.conntrack.track({
          family: 'ipv4',
          bytes: udp(CLIENT, ++port, SERVER, 53),
          hook: 'pre-routing',
        });
        if (tracking === 'drop') throw new Error('full');
        const entry = tracking.connection!;
        let asked = 0;
        const inner = list.map((outcome, index) => ({
          hook: () => {
            asked++;
            if (outcome === 'settle') nat.setup(entry, to(OUTSIDE), 'source');
            return outcome === 'drop' ? NF_DROP : NF_ACCEPT;
          },
          pf: NFPROTO_IPV4,
          hooknum: NF_INET_PRE_ROUTING,
          priority: index,
          name: outcome,
        }));
        const skb = new SkBuff(udp(CLIENT, port, SERVER, 53), { protocol: ETH_P_IP });
        const end = list.findIndex((outcome) => outcome !== 'accept');
        expect(settleNew(nat, inner, entry, 'source', skb, state)).toBe(
          list[end] === 'drop' ? NF_DROP : NF_ACCEPT,
        );
        expect(asked).toBe(end < 0 ? list.length : end + 1);
        expect(nat.isSettled(entry, 'source')).toBe(list[end] !== 'drop');
      }),
    );
  });
});

describe('the kernel hash', () => {
  // A property of lookup3: the last words alone are mixed in the end, so every word has to matter.
  it('depends on every word and on the start', () => {
    const words = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 7 });
    fc.assert(
      fc.property(words, fc.nat(), fc.integer({ min: 1, max: 0xffffffff }), (list, at, change) => {
        const other = [...list];
        const index = at % list.length;
        other[index] = (other[index]! ^ change) >>> 0;
        expect(jhash2(other, 0)).not.toBe(jhash2(list, 0));
        expect(jhash2(list, 1)).not.toBe(jhash2(list, 0));
      }),
    );
  });

  it('spreads over a range without leaving it', () => {
    expect(reciprocalScale(0, 10)).toBe(0);
    expect(reciprocalScale(0xffffffff, 10)).toBe(9);
    expect(reciprocalScale(0x80000000, 10)).toBe(5);
  });
});
