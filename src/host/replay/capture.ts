/** Packets of a capture file as a replay needs them: streamed, with their time, and the IP packet found in the frame. */
import type { Family } from '../../net/index.ts';
import { type CapturedPacket, type CaptureError, CaptureReader, Frame, loadFrame } from '../../wire/index.ts';

/** One captured packet. Bytes are the packet's own. */
export interface ReplayPacket {
  /** From 1, as other tools count. */
  readonly number: number;
  /** Milliseconds since the first packet. */
  readonly timeMs: number;
  /** When the first packet was captured, in milliseconds since 1970; absent where that is not known. */
  readonly startMs?: number;
  readonly linkType: number;
  /** Name of the interface it was captured at, where the file says so. */
  readonly device?: string;
  /** The whole frame as captured. */
  readonly frame: Uint8Array;
  /** From the IP header to the packet's end; bytes that the capture cut off are zero. Absent where there is no IP. */
  readonly ip?: { readonly family: Family; readonly bytes: Uint8Array; readonly cut: boolean };
  /** 14 bytes of Ethernet header, when there was one. */
  readonly ethernet?: Uint8Array;
  /** PACKET_*, 0 where the link type does not tell. */
  readonly packetType: number;
  /** True for a frame tagged for a VLAN: it belongs to the VLAN's own device. */
  readonly tagged: boolean;
}

/** Reads packets as chunks come. When the file breaks, `onError` is told once and the packets before it are good. */
export async function* replayPackets(
  chunks: AsyncIterable<Uint8Array>,
  onError: (error: CaptureError) => void,
): AsyncGenerator<ReplayPacket, void, undefined> {
  const reader = new CaptureReader();
  const frame = new Frame();
  let startNs: bigint | undefined;
  const convert = (captured: CapturedPacket): ReplayPacket => {
    const { number, linkType, data, originalLength } = captured;
    const timestampNs = captured.timestampNs ?? startNs ?? 0n;
    const firstNs = startNs ?? timestampNs;
    startNs = firstNs;
    const whole = wholeFrame(data, originalLength);
    loadFrame(frame, whole, linkType);
    const family: Family | undefined =
      frame.ip.family === 4 ? 'ipv4' : frame.ip.family === 6 ? 'ipv6' : undefined;
    const ethernet = frame.ethernetHeader;
    const device = reader.interfaces[captured.interfaceIndex]?.name;
    return {
      number,
      timeMs: Number(timestampNs - firstNs) / 1e6,
      startMs: Number(firstNs / 1000n) / 1000,
      linkType,
      frame: data,
      packetType: Math.max(0, frame.packetType),
      tagged: frame.tagCount > 0,
      ...(family === undefined
        ? {}
        : { ip: { family, bytes: whole.subarray(frame.networkOffset), cut: whole !== data } }),
      ...(ethernet === undefined ? {} : { ethernet }),
      ...(device === undefined ? {} : { device }),
    };
  };
  for await (const chunk of chunks) for (const packet of reader.push(chunk)) yield convert(packet);
  for (const packet of reader.finish()) yield convert(packet);
  if (reader.error !== undefined) onError(reader.error);
}

/** Longest frame that is filled up: an IP packet of 64 KiB and a link header. */
const MAXIMUM_FRAME = 65_535 + 256;

/** The frame as long as it was on the wire: what lies beyond the snap length is zero. The same object when nothing is missing. */
export function wholeFrame(data: Uint8Array, originalLength: number): Uint8Array {
  if (data.length >= originalLength) return data;
  const whole = new Uint8Array(Math.min(originalLength, MAXIMUM_FRAME));
  whole.set(data.subarray(0, whole.length));
  return whole;
}
