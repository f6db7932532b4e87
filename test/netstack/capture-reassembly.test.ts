/** Captures with fragments, against what Linux 6.18 delivered of each and counted. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type CapturedIp, ETH_P_IP, ETH_P_IPV6, reassemble } from '../../src/netstack/index.ts';
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
    /** The packet could not be given to the kernel at all. */
    readonly error?: string;
  }[];
  readonly counters: Readonly<Record<string, number>>;
}

const VECTORS = ['defrag-vectors', 'pcap-reassembly-shared.json'] as const;
const present = sharedDataExists(...VECTORS) && sharedDataExists('pcaps', 'frag');
const files = present
  ? Object.entries(readSharedJson<{ files: Record<string, Recorded> }>(...VECTORS).files)
  : [];

const here = files.filter(([name]) => sharedDataExists('pcaps', 'frag', name));
const absent = files.filter(([name]) => !sharedDataExists('pcaps', 'frag', name)).map(([name]) => name);

const IPPROTO_ICMPV6 = 58;
const ETHERTYPE_MPLS = 0x8847;

/** IP packets of a capture without its times: the recording knew none. */
function packetsOf(name: string): CapturedIp[] {
  const bytes = readFileSync(sharedDataPath('pcaps', 'frag', name));
  const capture = readCapture(name.endsWith('.gz') ? gunzipSync(bytes) : bytes);
  const frame = new Frame();
  return capture.packets.flatMap((packet, index) => {
    loadFrame(frame, packet.data, packet.linkType);
    if (frame.networkOffset === 0 && frame.etherType === 0) return [];
    const { etherType, networkOffset } = frame;
    const payload = packet.data.subarray(networkOffset);
    if (etherType === ETHERTYPE_MPLS) return [{ index, ...unlabel(payload), timestampNs: undefined }];
    return [{ index, bytes: payload, etherType, timestampNs: undefined }];
  });
}

/** The recording looked below MPLS labels (RFC 3032); whatever is not IPv6 there it took for IPv4. */
function unlabel(payload: Uint8Array): Pick<CapturedIp, 'bytes' | 'etherType'> {
  let at = 0;
  while (at + 4 <= payload.length && (payload[at + 2]! & 1) === 0) at += 4;
  const bytes = payload.subarray(at + 4);
  return { bytes, etherType: bytes[0]! >> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP };
}

describe.skipIf(!present)('recorded captures', () => {
  it.skipIf(absent.length > 0)(`all captures are there (absent: ${absent.join()})`, () => {
    expect(files.length).toBeGreaterThan(0);
  });

  it.each(here)('%s', (name, recorded) => {
    const delivered: object[] = [];
    const refused = new Set(recorded.delivered.filter(({ error }) => error !== undefined).map(({ i }) => i));
    const packets = packetsOf(name).filter(({ index }) => !refused.has(index));
    const results = reassemble(packets, {
      model: 'host',
      limits: { highThresh: 64 << 20, maxDist: 0 },
      routeLocalnet: true,
      joinsMulticast: false,
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
      fragments: recorded.fragments - refused.size,
      delivered: recorded.delivered
        .filter(({ error }) => error === undefined)
        .map(({ i, v, proto, len, sha256 }) => ({ i, v, proto, len, sha256 })),
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
