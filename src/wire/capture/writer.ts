/** Writes pcap and pcapng: each function gives the bytes to append to a file, in the order header, packets. */
import { WireError } from '../problem.ts';
import { MAXIMUM_PACKET_LENGTH } from './model.ts';
import { PCAP_FILE_HEADER_LENGTH, PcapMagic } from './pcap.ts';
import { PCAPNG_BYTE_ORDER_MAGIC, PcapngBlock } from './pcapng.ts';
import { encodeText } from './text.ts';

/** Byte order and timestamp unit of a file. */
export interface CaptureFormat {
  readonly littleEndian: boolean;
  readonly resolution: 'us' | 'ns';
}

/** What today's tools read everywhere. */
export const DEFAULT_CAPTURE_FORMAT: CaptureFormat = { littleEndian: true, resolution: 'us' };

/** A packet to write. Classic pcap holds seconds up to 2106; `originalLength` is the data's when absent. */
export interface PacketToWrite {
  readonly timestampNs: bigint;
  readonly data: Uint8Array;
  readonly originalLength?: number;
}

/** The file header of a pcap file. */
export function pcapHeader(
  linkType: number,
  format: CaptureFormat = DEFAULT_CAPTURE_FORMAT,
  snapLength: number = MAXIMUM_PACKET_LENGTH,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(PCAP_FILE_HEADER_LENGTH));
  const { littleEndian } = format;
  view.setUint32(
    0,
    format.resolution === 'ns' ? PcapMagic.NANOSECONDS : PcapMagic.MICROSECONDS,
    littleEndian,
  );
  view.setUint16(4, 2, littleEndian);
  view.setUint16(6, 4, littleEndian);
  view.setUint32(16, snapLength, littleEndian);
  view.setUint32(20, linkType, littleEndian);
  return new Uint8Array(view.buffer);
}

/** One record of a pcap file. Throws WireError for a time or length that the format cannot hold. */
export function pcapRecord(
  packet: PacketToWrite,
  format: CaptureFormat = DEFAULT_CAPTURE_FORMAT,
): Uint8Array {
  requirePacket(packet);
  const seconds = packet.timestampNs / 1_000_000_000n;
  if (packet.timestampNs < 0n || seconds > 0xffffffffn) {
    throw new WireError(
      `pcap cannot hold the time ${packet.timestampNs} ns`,
      'give a time from 1970 to 2106',
    );
  }
  const nanoseconds = Number(packet.timestampNs % 1_000_000_000n);
  const { littleEndian } = format;
  const bytes = new Uint8Array(16 + packet.data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Number(seconds), littleEndian);
  view.setUint32(4, format.resolution === 'ns' ? nanoseconds : Math.floor(nanoseconds / 1000), littleEndian);
  view.setUint32(8, packet.data.length, littleEndian);
  view.setUint32(12, packet.originalLength ?? packet.data.length, littleEndian);
  bytes.set(packet.data, 16);
  return bytes;
}

/** The section header of a pcapng file; interfaces come next. */
export function pcapngHeader(format: CaptureFormat = DEFAULT_CAPTURE_FORMAT): Uint8Array {
  const body = new DataView(new ArrayBuffer(16));
  body.setUint32(0, PCAPNG_BYTE_ORDER_MAGIC, format.littleEndian);
  body.setUint16(4, 1, format.littleEndian);
  // The section's length is not given.
  body.setBigInt64(8, -1n, format.littleEndian);
  return block(PcapngBlock.SECTION_HEADER, [new Uint8Array(body.buffer)], format.littleEndian);
}

/** Interface fields of a pcapng file. */
export interface InterfaceToWrite {
  readonly linkType: number;
  readonly name?: string;
  readonly snapLength?: number;
}

/** An interface block; packets name interfaces by the order of these, from 0. */
export function pcapngInterface(
  captureInterface: InterfaceToWrite,
  format: CaptureFormat = DEFAULT_CAPTURE_FORMAT,
): Uint8Array {
  const { littleEndian } = format;
  const head = new DataView(new ArrayBuffer(8));
  head.setUint16(0, captureInterface.linkType, littleEndian);
  head.setUint32(4, captureInterface.snapLength ?? MAXIMUM_PACKET_LENGTH, littleEndian);
  const parts: Uint8Array[] = [new Uint8Array(head.buffer)];
  if (captureInterface.name !== undefined) {
    parts.push(option(2, encodeText(captureInterface.name), littleEndian));
  }
  if (format.resolution === 'ns') parts.push(option(9, Uint8Array.of(9), littleEndian));
  parts.push(new Uint8Array(4));
  return block(PcapngBlock.INTERFACE, parts, littleEndian);
}

/** An enhanced packet block. Throws WireError for a time or length that the format cannot hold. */
export function pcapngPacket(
  packet: PacketToWrite,
  interfaceIndex: number,
  format: CaptureFormat = DEFAULT_CAPTURE_FORMAT,
): Uint8Array {
  requirePacket(packet);
  const ticks = format.resolution === 'ns' ? packet.timestampNs : packet.timestampNs / 1000n;
  if (ticks < 0n || ticks >= 1n << 64n) {
    throw new WireError(`pcapng cannot hold the time ${packet.timestampNs} ns`, 'give a time from 1970 on');
  }
  const { littleEndian } = format;
  const head = new DataView(new ArrayBuffer(20));
  head.setUint32(0, interfaceIndex, littleEndian);
  head.setUint32(4, Number(ticks >> 32n), littleEndian);
  head.setUint32(8, Number(ticks & 0xffffffffn), littleEndian);
  head.setUint32(12, packet.data.length, littleEndian);
  head.setUint32(16, packet.originalLength ?? packet.data.length, littleEndian);
  return block(PcapngBlock.ENHANCED_PACKET, [new Uint8Array(head.buffer), padded(packet.data)], littleEndian);
}

function requirePacket(packet: PacketToWrite): void {
  if (packet.data.length <= MAXIMUM_PACKET_LENGTH) return;
  throw new WireError(`a packet has ${packet.data.length} bytes`, `give at most ${MAXIMUM_PACKET_LENGTH}`);
}

function padded(data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((data.length + 3) & ~3);
  bytes.set(data);
  return bytes;
}

function option(code: number, data: Uint8Array, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(4 + ((data.length + 3) & ~3));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, littleEndian);
  view.setUint16(2, data.length, littleEndian);
  bytes.set(data, 4);
  return bytes;
}

function block(type: number, parts: readonly Uint8Array[], littleEndian: boolean): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 12);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, littleEndian);
  view.setUint32(4, length, littleEndian);
  let at = 8;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  view.setUint32(at, length, littleEndian);
  return bytes;
}
