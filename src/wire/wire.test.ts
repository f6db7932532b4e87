import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as wire from './index.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 20_000 : 300;
const bytes = (maxLength: number, minLength = 0): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength });
const exactly = (length: number): fc.Arbitrary<Uint8Array> => bytes(length, length);
const bits = (count: number): fc.Arbitrary<number> =>
  count === 32 ? fc.integer({ min: 0, max: 0xffffffff }) : fc.nat(2 ** count - 1);
const words = (most: number): fc.Arbitrary<Uint8Array> => fc.nat(most).chain((count) => exactly(count * 4));
const payload = bytes(120);

const ipv4 = fc.record({
  tos: bits(8),
  id: bits(16),
  reservedFlag: fc.boolean(),
  dontFragment: fc.boolean(),
  moreFragments: fc.boolean(),
  fragmentOffset: bits(13),
  ttl: bits(8),
  protocol: bits(8),
  source: exactly(4),
  destination: exactly(4),
  options: words(10),
});
const ipv6 = fc.record({
  trafficClass: bits(8),
  flowLabel: bits(20),
  nextHeader: bits(8),
  hopLimit: bits(8),
  source: exactly(16),
  destination: exactly(16),
});
const tcp = fc.record({
  sourcePort: bits(16),
  destinationPort: bits(16),
  sequence: bits(32),
  acknowledgment: bits(32),
  reserved: bits(4),
  flags: bits(8),
  window: bits(16),
  checksum: bits(16),
  urgentPointer: bits(16),
  options: words(10),
});
const udp = fc.record({
  sourcePort: bits(16),
  destinationPort: bits(16),
  length: bits(16),
  checksum: bits(16),
});
const icmp = fc.record({ type: bits(8), code: bits(8), checksum: bits(16), rest: bits(32) });
const dccp = fc.boolean().chain((extended) =>
  fc.record({
    sourcePort: bits(16),
    destinationPort: bits(16),
    dataOffset: fc.constant(extended ? 16 : 12),
    ccval: bits(4),
    coverage: bits(4),
    checksum: bits(16),
    type: bits(4),
    extended: fc.constant(extended),
    sequence: extended ? fc.maxSafeNat().map((value) => value % 2 ** 48) : bits(24),
  }),
);
const gre = fc.record(
  {
    version: fc.constantFrom(0 as const, 1 as const),
    protocol: bits(16),
    checksum: bits(16),
    key: bits(32),
    sequence: bits(32),
  },
  { requiredKeys: ['version', 'protocol'] },
);

/** emit, then parse: the same header, and the payload where it ends. */
function roundTrip<T>(
  name: string,
  header: fc.Arbitrary<T>,
  emit: (header: T, payload: Uint8Array) => Uint8Array,
  parse: (bytes: Uint8Array, offset: number) => unknown,
): void {
  it(`${name}: what is emitted is parsed, at any offset`, () => {
    fc.assert(
      fc.property(header, payload, fc.nat(9), (fields, data, shift) => {
        const emitted = emit(fields, data);
        const moved = wire.concatenate(new Uint8Array(shift).fill(0xa5), emitted);
        expect(parse(moved, shift)).toMatchObject(fields as object);
        expect(emitted.slice(emitted.length - data.length)).toEqual(data);
        expect(emit(parse(emitted, 0) as T, data)).toEqual(emitted);
      }),
      { numRuns: RUNS },
    );
  });
}

describe('round trips', () => {
  roundTrip('ipv4', ipv4, wire.emitIpv4, wire.parseIpv4);
  roundTrip('ipv6', ipv6, wire.emitIpv6, wire.parseIpv6);
  roundTrip('tcp', tcp, wire.emitTcp, wire.parseTcp);
  roundTrip('udp', udp, wire.emitUdp, wire.parseUdp);
  roundTrip('udplite', udp, wire.emitUdplite, wire.parseUdp);
  roundTrip('icmp', icmp, wire.emitIcmp, wire.parseIcmp);
  roundTrip('dccp', dccp, wire.emitDccp, wire.parseDccp);
  roundTrip('gre', gre, wire.emitGre, wire.parseGre);
  roundTrip('esp', fc.record({ spi: bits(32), sequence: bits(32) }), wire.emitEsp, wire.parseEsp);
  roundTrip(
    'ah',
    fc.record({
      nextHeader: bits(8),
      reserved: bits(16),
      spi: bits(32),
      sequence: bits(32),
      icv: words(254),
    }),
    wire.emitAh,
    wire.parseAh,
  );
  roundTrip(
    'sctp',
    fc.record({ sourcePort: bits(16), destinationPort: bits(16), tag: bits(32) }),
    wire.emitSctp,
    wire.parseSctp,
  );
  roundTrip(
    'ethernet',
    fc.record({ destination: exactly(6), source: exactly(6), etherType: bits(16) }),
    wire.emitEthernet,
    wire.parseEthernet,
  );
  roundTrip(
    'ipv6 fragment',
    fc.record({ nextHeader: bits(8), fragmentOffset: bits(13), moreFragments: fc.boolean(), id: bits(32) }),
    wire.emitIpv6Fragment,
    wire.parseIpv6Fragment,
  );

  it('arp, vlan stacks, options and chunks', () => {
    const arp = fc.record({
      hardwareType: bits(16),
      protocolType: bits(16),
      operation: bits(16),
      senderHardware: exactly(6),
      senderProtocol: exactly(4),
      targetHardware: exactly(6),
      targetProtocol: exactly(4),
    });
    const tags = fc.array(fc.record({ tpid: fc.constantFrom(0x8100, 0x88a8, 0x9100), tci: bits(16) }), {
      maxLength: 5,
    });
    const options = fc.array(fc.record({ kind: fc.integer({ min: 2, max: 255 }), data: bytes(12) }), {
      maxLength: 6,
    });
    const chunks = fc.array(fc.record({ type: bits(8), flags: bits(8), value: bytes(20) }), { maxLength: 5 });
    fc.assert(
      fc.property(arp, tags, options, chunks, (packet, stack, list, parts) => {
        expect(wire.parseArp(wire.emitArp(packet))).toEqual(packet);
        const tagged = wire.parseVlan(wire.emitVlan(stack, 0x0800, new Uint8Array(3)), 0);
        expect(tagged).toEqual({ tags: stack, etherType: 0x0800, payloadOffset: stack.length * 4 + 2 });
        const emitted = wire.emitOptions(list);
        const walked = wire.walkOptions(emitted, 0, emitted.length);
        expect(walked.wellFormed).toBe(true);
        expect(walked.options.map(({ kind, data }) => ({ kind, data }))).toEqual(list);
        const body = wire.concatenate(
          ...parts.map((part) => wire.emitChunk(part.type, part.flags, part.value)),
        );
        const found = wire.walkChunks(body, 0);
        expect(found.wellFormed).toBe(true);
        expect(found.chunks.map(({ type, flags, value }) => ({ type, flags, value }))).toEqual(parts);
      }),
      { numRuns: RUNS },
    );
  });

  it('what is parsed shares no memory with the packet, also when that is a Buffer', () => {
    const ends = { source: Uint8Array.of(1, 2, 3, 4), destination: Uint8Array.of(5, 6, 7, 8) };
    const flags = { reservedFlag: false, dontFragment: false, moreFragments: false, fragmentOffset: 0 };
    const header = { tos: 0, id: 0, ...flags, ttl: 1, protocol: 6, ...ends, options: new Uint8Array(0) };
    const packet = Buffer.from(wire.emitIpv4(header, new Uint8Array(0)));
    const parsed = wire.parseIpv4(packet);
    packet.fill(0);
    expect(parsed?.source).toEqual(ends.source);
  });

  it('emitters refuse what does not fit, with a code and a hint', () => {
    const header = { sourcePort: 65536, destinationPort: 1 };
    expect(() => wire.emitUdp(header, payload as never)).toThrow(
      expect.objectContaining({ code: 'WIRE_VALUE' }),
    );
    expect(() => wire.emitUdp({ sourcePort: 1, destinationPort: 1 }, new Uint8Array(65536))).toThrow(
      wire.WireError,
    );
    expect(() => wire.emitExtension(6, new Uint8Array(7), new Uint8Array(0))).toThrow(wire.WireError);
    expect(() => wire.fragmentIpv4(new Uint8Array(3), 100)).toThrow(wire.WireError);
  });
});

describe('checksums', () => {
  it('RFC 1071 §3: the example sums to ddf2', () => {
    const example = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(wire.foldSum(wire.addToSum(0, example, 0, 8))).toBe(0xddf2);
  });

  it('RFC 3720 B.4: CRC32c of 32 zeros, as SCTP carries it', () => {
    // The packet's checksum field is among the zeros, so the CRC is that of the vector.
    expect(wire.computeSctpChecksum(new Uint8Array(32))).toBe(0xaa36918a);
  });

  it('updated piece by piece as computed anew', () => {
    fc.assert(
      fc.property(bytes(60, 8), fc.nat(), exactly(4), (data, at, change) => {
        const even = data.slice(0, data.length & ~1);
        const offset = (at % ((even.length - 2) / 2)) * 2;
        const after = even.slice();
        after.set(change.subarray(0, Math.min(4, even.length - offset)), offset);
        const [before32, after32] = [wire.read32(even, offset), wire.read32(after, offset)];
        const full = wire.internetChecksum(after);
        const start = wire.internetChecksum(even);
        // All-zero data has two representations of zero; RFC 1624 §3 is about data that is never all zero.
        fc.pre(after.some((value) => value !== 0) && even.some((value) => value !== 0));
        if (offset + 4 <= even.length) expect(wire.updateChecksum32(start, before32, after32)).toBe(full);
        expect(wire.updateChecksumBytes(start, even, after)).toBe(full);
      }),
      { numRuns: RUNS },
    );
  });

  it('filled checksums verify, and one flipped bit does not', () => {
    const transports = fc.constantFrom(6, 17, 136, 33, 132, 1, 58);
    fc.assert(
      fc.property(
        ipv4,
        ipv6,
        transports,
        fc.boolean(),
        payload,
        fc.nat(),
        (four, six, protocol, isSix, data, flip) => {
          const segment = buildTransport(protocol, data);
          fc.pre((protocol !== 1 || !isSix) && (protocol !== 58 || isSix));
          const whole = isSix
            ? wire.emitIpv6({ ...six, nextHeader: protocol }, segment)
            : wire.emitIpv4({ ...four, protocol, moreFragments: false, fragmentOffset: 0 }, segment);
          const packet = new wire.IpPacket();
          expect(wire.loadIpPacket(packet, whole)).toBe(true);
          wire.fillTransportChecksum(packet);
          expect(wire.transportChecksumStatus(packet)).toBe('good');
          // Not a length, coverage or checksum field: those may make it uncheckable instead of wrong.
          const at = packet.transportOffset + [0, 1, 2, 3][flip % 4]!;
          fc.pre(protocol !== 1 || wire.read16(whole, packet.transportOffset + 2) !== 0);
          whole[at === packet.transportOffset + 2 || at === packet.transportOffset + 3 ? at - 2 : at]! ^=
            1 << (flip % 8);
          expect(wire.transportChecksumStatus(packet)).toBe('bad');
        },
      ),
      { numRuns: RUNS },
    );
  });
});

function buildTransport(protocol: number, data: Uint8Array): Uint8Array {
  const ports = { sourcePort: 1234, destinationPort: 80 };
  const rest = { sequence: 1, acknowledgment: 2, reserved: 0, flags: 0x18, window: 512, urgentPointer: 0 };
  switch (protocol) {
    case 6:
      return wire.emitTcp({ ...ports, ...rest, options: new Uint8Array(0) }, data);
    case 17:
      return wire.emitUdp(ports, data);
    case 136:
      return wire.emitUdplite(ports, data);
    case 132:
      return wire.emitSctp({ ...ports, tag: 7 }, data);
    case 33: {
      const header = {
        ...ports,
        dataOffset: 12,
        ccval: 0,
        coverage: 0,
        checksum: 0,
        type: 2,
        extended: false,
      };
      return wire.emitDccp({ ...header, sequence: 9 }, data);
    }
    default:
      return wire.emitIcmp({ type: 8, code: 0, rest: 1 }, data);
  }
}

describe('fragments', () => {
  it('put together again are the packet, and none is longer than the MTU', () => {
    fc.assert(
      fc.property(
        ipv4,
        ipv6,
        bytes(3000, 100),
        fc.integer({ min: 120, max: 1500 }),
        bits(32),
        (four, six, data, mtu, id) => {
          const whole4 = wire.emitIpv4({ ...four, moreFragments: false, fragmentOffset: 0 }, data);
          const whole6 = wire.emitIpv6(
            { ...six, nextHeader: 0 },
            wire.emitExtension(17, Uint8Array.of(1, 4, 0, 0, 0, 0), data),
          );
          for (const [whole, pieces] of [
            [whole4, wire.fragmentIpv4(whole4, mtu)],
            [whole6, wire.fragmentIpv6(whole6, mtu, id)],
          ] as const) {
            const packet = new wire.IpPacket();
            wire.loadIpPacket(packet, whole);
            const rebuilt = new Uint8Array(packet.end - packet.transportOffset);
            let last = 0;
            for (const piece of pieces) {
              expect(piece.length).toBeLessThanOrEqual(mtu);
              expect(wire.loadIpPacket(packet, piece)).toBe(true);
              rebuilt.set(piece.subarray(packet.transportOffset), packet.fragmentOffset * 8);
              expect(packet.isFragment).toBe(pieces.length > 1);
              if (!packet.moreFragments) last++;
            }
            expect(last).toBe(1);
            expect(rebuilt).toEqual(data);
          }
        },
      ),
      { numRuns: Math.ceil(RUNS / 3) },
    );
  });
});

describe('options of fragments', () => {
  it('RFC 791: those with the copied bit go into every fragment, the others into the first only', () => {
    const routeRecorded = [7, 3, 4];
    const strictRoute = [137, 3, 4];
    const ends = { source: new Uint8Array(4), destination: new Uint8Array(4) };
    const flags = { reservedFlag: false, dontFragment: false, moreFragments: false, fragmentOffset: 0 };
    const options = Uint8Array.of(...routeRecorded, ...strictRoute, 1, 0);
    const header = { tos: 0, id: 7, ...flags, ttl: 1, protocol: 17, ...ends, options };
    const [first, ...later] = wire.fragmentIpv4(wire.emitIpv4(header, new Uint8Array(100)), 68);
    expect(wire.parseIpv4(first!)?.options).toEqual(options);
    expect(later.length).toBe(2);
    for (const piece of later) {
      expect(wire.parseIpv4(piece)?.options).toEqual(Uint8Array.of(1, 1, 1, ...strictRoute, 1, 0));
    }
  });
});

/** Everything that looks at bytes of unknown goodness. Throws when any of it does. */
function lookAtAll(data: Uint8Array): void {
  const frame = new wire.Frame();
  for (const linkType of Object.values(wire.LinkType)) {
    wire.loadFrame(frame, data, linkType);
    wire.printFrameLine(frame);
    wire.printFrameTree(frame);
    wire.transportChecksumStatus(frame.ip);
    expect(frame.ipBytes.length).toBeLessThanOrEqual(data.length);
  }
  const found = wire.newFoundHeader();
  wire.findIpv6Header(data, 0, data.length, -1, 0, found);
  for (const [name, parse] of Object.entries(wire)) {
    if (/^(parse(?!Mac)|check)/.test(name))
      (parse as (bytes: Uint8Array, offset: number) => unknown)(data, 0);
  }
  for (const walk of [wire.walkOptions, wire.walkIpv6Options, wire.walkChunks, wire.walkExtensions]) {
    walk(data, 0, data.length);
  }
}

/** Frames with every header there is, so that cutting and changing them reaches every parser. */
function* sampleFrames(): Generator<Uint8Array> {
  const four = {
    tos: 0,
    id: 1,
    reservedFlag: false,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 64,
  };
  const six = {
    trafficClass: 0,
    flowLabel: 0,
    hopLimit: 64,
    source: new Uint8Array(16),
    destination: new Uint8Array(16),
  };
  const mac = { destination: new Uint8Array(6), source: new Uint8Array(6) };
  for (const protocol of [6, 17, 136, 33, 132, 1]) {
    const body = buildTransport(protocol, new Uint8Array(9));
    const options = Uint8Array.of(7, 3, 4, 1);
    const ends = { source: new Uint8Array(4), destination: new Uint8Array(4) };
    const packet = wire.emitIpv4({ ...four, ...ends, protocol, options }, body);
    yield wire.emitEthernet({ ...mac, etherType: 0x0800 }, packet);
    const tags = [
      { tpid: 0x88a8, tci: 9 },
      { tpid: 0x8100, tci: 5 },
    ];
    yield wire.concatenate(mac.destination, mac.source, wire.emitVlan(tags, 0x0800, packet));
    const inner = wire.emitIpv6Fragment(
      { nextHeader: protocol, fragmentOffset: 0, moreFragments: false, id: 1 },
      body,
    );
    const routed = wire.emitExtension(44, new Uint8Array(14), inner);
    const chain = wire.emitExtension(43, Uint8Array.of(1, 4, 0, 0, 0, 0), routed);
    yield wire.emitEthernet({ ...mac, etherType: 0x86dd }, wire.emitIpv6({ ...six, nextHeader: 0 }, chain));
  }
}

describe('bad input', () => {
  it('never throws: frames of every kind cut at every byte', () => {
    for (const frame of sampleFrames()) {
      for (let length = 0; length <= frame.length; length++) {
        lookAtAll(frame.slice(0, length));
        lookAtAll(frame.slice(14, 14 + length));
      }
    }
  });

  it('never throws: frames with bytes changed, and random bytes', () => {
    const frames = [...sampleFrames()];
    const changes = fc.array(fc.tuple(fc.nat(), bits(8)), { maxLength: 6 });
    fc.assert(
      fc.property(fc.nat(frames.length - 1), changes, bytes(200), (index, edits, noise) => {
        const frame = frames[index]!.slice();
        for (const [at, value] of edits) frame[at % frame.length] = value;
        lookAtAll(frame);
        lookAtAll(noise);
      }),
      { numRuns: RUNS },
    );
  });

  it('prints a chain of thousands of headers without making megabytes of indentation', () => {
    const chain = new Uint8Array(8 * 8000);
    for (let at = 0; at < chain.length; at += 8) chain[at] = 60;
    const ends = { source: new Uint8Array(16), destination: new Uint8Array(16) };
    const packet = wire.emitIpv6(
      { trafficClass: 0, flowLabel: 0, nextHeader: 60, hopLimit: 1, ...ends },
      chain,
    );
    const view = new wire.IpPacket();
    wire.loadIpPacket(view, packet);
    expect(wire.printPacketTree(view).length).toBeLessThan(1_000_000);
  });
});
