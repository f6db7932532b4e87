/** Captures with fragments, against what Linux 6.18 delivered of each and counted. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type CapturedIp, reassemble } from '../../src/netstack/index.ts';
import { addToSum, Frame, finishSum, loadFrame, readCapture } from '../../src/wire/index.ts';
import { readSharedJson, sharedDataExists, sharedDataPath } from '../support/shared-data.ts';

interface Recorded {
  readonly fragments: number;
  readonly delivered: readonly {
    readonly i: number;
    readonly v: 4 | 6;
    readonly proto: number;
    readonly len: number;
    readonly sha256: string;
  }[];
  readonly counters: Readonly<Record<string, number>>;
}

const VECTORS = ['defrag-vectors', 'pcap-reassembly-shared.json'] as const;
const present = sharedDataExists(...VECTORS) && sharedDataExists('pcaps', 'frag');
const files = present
  ? Object.entries(readSharedJson<{ files: Record<string, Recorded> }>(...VECTORS).files)
  : [];

const IPPROTO_ICMPV6 = 58;

/** IP packets of a capture without its times: the recording knew none. */
function packetsOf(name: string): CapturedIp[] {
  const bytes = readFileSync(sharedDataPath('pcaps', 'frag', name));
  const capture = readCapture(name.endsWith('.gz') ? gunzipSync(bytes) : bytes);
  const frame = new Frame();
  return capture.packets.flatMap((packet, index) => {
    loadFrame(frame, packet.data, packet.linkType);
    if (frame.networkOffset === 0 && frame.etherType === 0) return [];
    const { etherType, networkOffset } = frame;
    return [{ index, bytes: packet.data.subarray(networkOffset), etherType, timestampNs: undefined }];
  });
}

describe.skipIf(!present)('recorded captures', () => {
  it.each(files)('%s', (name, recorded) => {
    const delivered: object[] = [];
    const results = reassemble(packetsOf(name), {
      model: 'host',
      limits: { highThresh: 64 << 20, maxDist: 0 },
    });
    let next = results.next();
    for (; !next.done; next = results.next()) {
      const result = next.value;
      if (result.kind !== 'delivered') continue;
      const payload = result.bytes.subarray(result.payloadOffset);
      if (result.protocol === IPPROTO_ICMPV6 && !icmpv6ChecksumIsGood(result.bytes, payload)) continue;
      delivered.push({
        i: result.index,
        v: result.family === 'ipv4' ? 4 : 6,
        proto: result.protocol,
        len: payload.length,
        sha256: createHash('sha256').update(payload).digest('hex').slice(0, 16),
      });
    }
    const { counters, fragments } = next.value;
    const { IpInReceives, Ip6InReceives, ...moved } = counters;
    expect((IpInReceives ?? 0) + (Ip6InReceives ?? 0)).toBe(fragments);
    expect({ fragments, delivered, counters: moved }).toEqual({
      fragments: recorded.fragments,
      delivered: recorded.delivered.map(({ i, v, proto, len, sha256 }) => ({ i, v, proto, len, sha256 })),
      counters: recorded.counters,
    });
  });
});

/** Raw sockets of ICMPv6 check it (RFC 3542 §3.1); those of other protocols give what comes. */
function icmpv6ChecksumIsGood(packet: Uint8Array, payload: Uint8Array): boolean {
  return (
    finishSum(
      addToSum(addToSum(payload.length + IPPROTO_ICMPV6, packet, 8, 40), payload, 0, payload.length),
    ) === 0
  );
}
