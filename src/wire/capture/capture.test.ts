import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concatenate } from '../bytes.ts';
import { type CaptureContents, CaptureReader, MAXIMUM_PACKET_LENGTH, readCapture } from './index.ts';
import {
  type CaptureFormat,
  type PacketToWrite,
  pcapHeader,
  pcapngHeader,
  pcapngInterface,
  pcapngPacket,
  pcapRecord,
} from './writer.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 20_000 : 300;
const format: fc.Arbitrary<CaptureFormat> = fc.record({
  littleEndian: fc.boolean(),
  resolution: fc.constantFrom('us' as const, 'ns' as const),
});
/** Times up to 2106, which is where classic pcap ends. */
const packet = fc
  .record({
    seconds: fc.nat(0x7fffffff),
    nanoseconds: fc.nat(999_999_999),
    data: fc.uint8Array({ maxLength: 90 }),
    cut: fc.nat(9),
  })
  .map(({ seconds, nanoseconds, data, cut }) => ({
    timestampNs: BigInt(seconds) * 2n * 1_000_000_000n + BigInt(nanoseconds),
    data,
    originalLength: data.length + cut,
  }));
const packets = fc.array(packet, { maxLength: 8 });

/** What a file of this resolution can hold of the time. */
const held = (ns: bigint, { resolution }: CaptureFormat): bigint =>
  resolution === 'ns' ? ns : (ns / 1000n) * 1000n;

/** Feeds the bytes in chunks of the sizes given, round and round. */
function readChunks(bytes: Uint8Array, sizes: readonly number[]): CaptureContents {
  const reader = new CaptureReader();
  const found = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    found.push(...reader.push(bytes.subarray(at, at + size)));
    at += size;
  }
  found.push(...reader.finish());
  return { packets: found, interfaces: reader.interfaces, error: reader.error };
}

const pcap = (list: readonly PacketToWrite[], how: CaptureFormat): Uint8Array =>
  concatenate(pcapHeader(1, how), ...list.map((one) => pcapRecord(one, how)));
const pcapng = (list: readonly PacketToWrite[], how: CaptureFormat): Uint8Array =>
  concatenate(
    pcapngHeader(how),
    pcapngInterface({ linkType: 1, name: 'eth0 ü' }, how),
    pcapngInterface({ linkType: 113 }, how),
    ...list.map((one, index) => pcapngPacket(one, index % 2, how)),
  );

describe('captures', () => {
  it('round trip in both formats, byte orders and resolutions, whatever the chunks', () => {
    fc.assert(
      fc.property(
        packets,
        format,
        fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1 }),
        (list, how, sizes) => {
          for (const file of [pcap(list, how), pcapng(list, how)]) {
            const read = readChunks(file, sizes);
            expect(read.error).toBeUndefined();
            expect(read).toEqual(readCapture(file));
            expect(
              read.packets.map(({ timestampNs, data, originalLength }) => ({
                timestampNs,
                data,
                originalLength,
              })),
            ).toEqual(list.map((one) => ({ ...one, timestampNs: held(one.timestampNs, how) })));
            expect(read.packets.map(({ number }) => number)).toEqual(list.map((_, index) => index + 1));
          }
          const { interfaces, packets: both } = readCapture(pcapng(list, how));
          expect(interfaces.map(({ linkType, name }) => [linkType, name])).toEqual([
            [1, 'eth0 ü'],
            [113, undefined],
          ]);
          expect(both.map(({ linkType }) => linkType)).toEqual(
            list.map((_, index) => (index % 2 === 0 ? 1 : 113)),
          );
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('cut at any byte, give every packet that is whole and say where the file ends', () => {
    const how: CaptureFormat = { littleEndian: true, resolution: 'us' };
    const list = [1, 2, 3].map((size) => ({
      timestampNs: BigInt(size),
      data: new Uint8Array(size * 7).fill(size),
    }));
    for (const build of [pcap, pcapng]) {
      const file = build(list, how);
      const ends = [0, 1, 2, 3].map((count) => build(list.slice(0, count), how).length);
      for (let length = 0; length <= file.length; length++) {
        const read = readCapture(file.subarray(0, length));
        expect(read.packets.length).toBe(ends.slice(1).filter((end) => end <= length).length);
        const boundary =
          ends.includes(length) || (build === pcapng && (length === 28 || isInterfaceEnd(file, length)));
        expect(read.error?.code).toBe(boundary ? undefined : 'CAPTURE_TRUNCATED');
        if (read.error !== undefined) expect(read.error.offset).toBeLessThanOrEqual(length);
      }
    }
  });

  it('refuse absurd lengths at once, before waiting for them', () => {
    const how: CaptureFormat = { littleEndian: true, resolution: 'us' };
    const good = { timestampNs: 1n, data: new Uint8Array(4) };
    const record = pcapRecord(good, how);
    new DataView(record.buffer).setUint32(8, MAXIMUM_PACKET_LENGTH + 1, true);
    const classic = readCapture(concatenate(pcap([good], how), record));
    expect([classic.packets.length, classic.error?.code, classic.error?.offset]).toEqual([
      1,
      'CAPTURE_TOO_LARGE',
      44,
    ]);
    const block = pcapngPacket(good, 0, how);
    new DataView(block.buffer).setUint32(4, 0xfffffff0, true);
    const next = readCapture(concatenate(pcapng([good], how), block));
    expect([next.packets.length, next.error?.code]).toEqual([1, 'CAPTURE_TOO_LARGE']);
  });

  it('name what is wrong with each kind of broken file', () => {
    const how: CaptureFormat = { littleEndian: true, resolution: 'us' };
    const change = (file: Uint8Array, at: number, value: number): Uint8Array => {
      const changed = file.slice();
      changed[at] = value;
      return changed;
    };
    const file = pcapng([{ timestampNs: 1n, data: new Uint8Array(4) }], how);
    const packetAt = file.length - 36;
    const cases: readonly (readonly [Uint8Array, string, RegExp])[] = [
      [new Uint8Array(0), 'CAPTURE_TRUNCATED', /empty/],
      [Uint8Array.of(1, 2, 3, 4), 'CAPTURE_FORMAT', /no capture/],
      [Uint8Array.of(0x1f, 0x8b, 8, 0), 'CAPTURE_FORMAT', /no capture/],
      [change(pcap([], how), 6, 5), 'CAPTURE_VERSION', /2\.5/],
      [change(file, 12, 2), 'CAPTURE_VERSION', /2\.0/],
      [change(file, 8, 0), 'CAPTURE_CORRUPT', /byte-order magic/],
      [change(file, packetAt + 8, 7), 'CAPTURE_CORRUPT', /interface 7 of 2/],
      [change(file, packetAt + 20, 90), 'CAPTURE_CORRUPT', /longer than its block/],
      [change(file, packetAt + 4, 32), 'CAPTURE_CORRUPT', /lengths/],
      [change(file, file.length - 4, 40), 'CAPTURE_CORRUPT', /two lengths/],
    ];
    for (const [bytes, code, reason] of cases) {
      const { error } = readCapture(bytes);
      expect(error?.code, String(reason)).toBe(code);
      expect(error?.message).toMatch(reason);
      expect(error?.hint).not.toBe('');
    }
    expect(readCapture(Uint8Array.of(0x1f, 0x8b, 8, 0)).error?.hint).toMatch(/decompress/);
  });

  it('if_tsresol and if_tsoffset: powers of 10 and of 2, seconds added', () => {
    const head = pcapngHeader();
    const block = new DataView(new ArrayBuffer(20 + 8 + 12 + 4));
    block.setUint32(0, 1, true);
    block.setUint32(4, block.byteLength, true);
    block.setUint16(8, 1, true);
    block.setUint16(16, 9, true);
    block.setUint16(18, 1, true);
    block.setUint8(20, 0x80 | 10);
    block.setUint16(24, 14, true);
    block.setUint16(26, 8, true);
    block.setBigInt64(28, -5n, true);
    block.setUint32(block.byteLength - 4, block.byteLength, true);
    // 7 seconds and a half in units of 2^-10 s: the writer's microseconds are taken for them.
    const ticks = pcapngPacket({ timestampNs: 7680n * 1000n, data: new Uint8Array(1) }, 0);
    const { packets: read, error } = readCapture(concatenate(head, new Uint8Array(block.buffer), ticks));
    expect(error).toBeUndefined();
    expect(read[0]?.timestampNs).toBe(2_500_000_000n);
  });
});

function isInterfaceEnd(file: Uint8Array, length: number): boolean {
  const view = new DataView(file.buffer);
  let at = 28;
  while (at < length && view.getUint32(at, true) === 1) at += view.getUint32(at + 4, true);
  return at === length || length === 28 + view.getUint32(32, true);
}
