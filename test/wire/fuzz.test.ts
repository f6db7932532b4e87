/** Captures made from the shared ones by mutation, and ruined packets out of them: no crash, no hang, bounded output. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CaptureReader,
  Frame,
  fillTransportChecksum,
  findIpv6Header,
  isSupportedLinkType,
  loadFrame,
  newFoundHeader,
  printFrameLine,
  printFrameTree,
  readCapture,
  transportChecksumStatus,
} from '../../src/wire/index.ts';
import { capturePaths, readCaptureBytes } from './captures.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 200_000 : 2_000;
const captures = capturePaths();

type Mutation = readonly [kind: 'set' | 'cut' | 'double' | 'big', at: number, value: number];
const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.tuple(
    fc.constantFrom('set' as const, 'cut' as const, 'double' as const, 'big' as const),
    fc.nat(),
    fc.nat(255),
  ),
  { minLength: 1, maxLength: 8 },
);

function mutate(original: Uint8Array, list: readonly Mutation[]): Uint8Array {
  let bytes = original.slice(0, 65_536);
  for (const [kind, offset, value] of list) {
    const at = bytes.length === 0 ? 0 : offset % bytes.length;
    if (kind === 'set') bytes[at] = value;
    else if (kind === 'big') bytes.fill(0xff, at, at + (value % 5));
    else if (kind === 'cut') bytes = Uint8Array.of(...bytes.subarray(0, at), ...bytes.subarray(at + value));
    else bytes = Uint8Array.of(...bytes.subarray(0, at + (value % 64)), ...bytes.subarray(at));
  }
  return bytes;
}

function look(frame: Frame, data: Uint8Array, linkType: number): void {
  loadFrame(frame, data, linkType);
  expect(printFrameLine(frame).length).toBeLessThan(100_000);
  expect(printFrameTree(frame).length).toBeLessThan(1_000_000 + data.length * 20);
  const { ip } = frame;
  if (ip.family === 6) findIpv6Header(ip.bytes, ip.offset, ip.end, -1, 0, newFoundHeader());
  if (ip.family === 0 || transportChecksumStatus(ip) === 'none') return;
  const before = transportChecksumStatus(ip);
  fillTransportChecksum(ip);
  const after = transportChecksumStatus(ip);
  // What could be computed is right once filled in; what could not is untouched.
  if (before === 'bad') expect(after).toBe('good');
  else if (before === 'illegal') expect(['good', 'illegal']).toContain(after);
  else expect(after).toBe(before);
}

describe('fuzz from the shared captures', () => {
  it('mutated files', (context) => {
    context.skip(captures.length === 0, 'the shared captures are absent');
    const cache = new Map<string, Uint8Array>();
    const frame = new Frame();
    fc.assert(
      fc.property(
        fc.nat(captures.length - 1),
        mutations,
        fc.integer({ min: 1, max: 9000 }),
        (index, list, size) => {
          const path = captures[index]!;
          if (!cache.has(path)) cache.set(path, readCaptureBytes(path));
          const bytes = mutate(cache.get(path)!, list);
          const reader = new CaptureReader();
          let read = 0;
          const all = function* () {
            for (let at = 0; at < bytes.length; at += size) yield* reader.push(bytes.subarray(at, at + size));
            yield* reader.finish();
          };
          for (const packet of all()) {
            read += packet.data.length;
            if (isSupportedLinkType(packet.linkType)) look(frame, packet.data, packet.linkType);
          }
          // Every byte given was in the file: nothing is invented, nothing read twice.
          expect(read).toBeLessThanOrEqual(bytes.length);
          expect(reader.error?.offset ?? 0).toBeLessThanOrEqual(bytes.length);
        },
      ),
      { numRuns: RUNS / 4 },
    );
  });

  it('mutated packets', (context) => {
    context.skip(captures.length === 0, 'the shared captures are absent');
    const samples = captures.flatMap((path) => {
      const supported = readCapture(readCaptureBytes(path)).packets.filter((one) =>
        isSupportedLinkType(one.linkType),
      );
      return supported.slice(0, 5);
    });
    const frame = new Frame();
    fc.assert(
      fc.property(fc.nat(samples.length - 1), mutations, (index, list) => {
        const { data, linkType } = samples[index]!;
        look(frame, mutate(data, list), linkType);
      }),
      { numRuns: RUNS },
    );
  });
});
