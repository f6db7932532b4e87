/** Classic pcap files (IETF draft-ietf-opsawg-pcap; pcap-savefile(5)). */

import type { InputBuffer } from './buffer.ts';
import {
  type CapturedPacket,
  CaptureError,
  type CaptureInterface,
  MAXIMUM_PACKET_LENGTH,
  ticksToNs,
} from './model.ts';
import type { FormatParser } from './reader.ts';

/** Magic numbers as read big endian. The modified one of Kuznetzov's patch has 8 more bytes a record. */
export const PcapMagic = {
  MICROSECONDS: 0xa1b2c3d4,
  NANOSECONDS: 0xa1b23c4d,
  MODIFIED: 0xa1b2cd34,
} as const;

/** Bytes of the file header. */
export const PCAP_FILE_HEADER_LENGTH = 24;

/** How a magic number says that the file is to be read; `undefined` when it is not pcap. */
export function pcapVariant(
  magic: Uint8Array,
): { readonly littleEndian: boolean; readonly magic: number } | undefined {
  const view = new DataView(magic.buffer, magic.byteOffset, 4);
  for (const littleEndian of [false, true]) {
    const value = view.getUint32(0, littleEndian);
    if (value === PcapMagic.MICROSECONDS || value === PcapMagic.NANOSECONDS || value === PcapMagic.MODIFIED) {
      return { littleEndian, magic: value };
    }
  }
  return undefined;
}

/** Reads file header and records as they become complete. */
export class PcapParser implements FormatParser {
  readonly interfaces: CaptureInterface[] = [];
  readonly #littleEndian: boolean;
  readonly #magic: number;
  #count = 0;

  constructor(variant: { readonly littleEndian: boolean; readonly magic: number }) {
    this.#littleEndian = variant.littleEndian;
    this.#magic = variant.magic;
  }

  get #recordHeaderLength(): number {
    return this.#magic === PcapMagic.MODIFIED ? 24 : 16;
  }

  next(input: InputBuffer): CapturedPacket | 'more' | 'again' {
    return this.interfaces.length === 0 ? this.#readFileHeader(input) : this.#readRecord(input);
  }

  #readFileHeader(input: InputBuffer): 'more' | 'again' {
    if (input.available < PCAP_FILE_HEADER_LENGTH) return 'more';
    const bytes = input.peek(PCAP_FILE_HEADER_LENGTH);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const major = view.getUint16(4, this.#littleEndian);
    const minor = view.getUint16(6, this.#littleEndian);
    // 2.4 is every file of today; 2.3 swapped the two lengths of a record; 543.0 is an old tcpdump's name for 2.4.
    if (!(major === 2 && minor === 4) && !(major === 543 && minor === 0)) {
      throw new CaptureError(
        'CAPTURE_VERSION',
        4,
        `pcap version ${major}.${minor}`,
        'convert the file to pcap 2.4',
      );
    }
    // The upper bits state the length of a frame check sequence.
    const linkType = view.getUint32(20, this.#littleEndian) & 0x03ffffff;
    this.interfaces.push({
      linkType,
      snapLength: view.getUint32(16, this.#littleEndian),
      ticksPerSecond: this.#magic === PcapMagic.NANOSECONDS ? 1_000_000_000n : 1_000_000n,
      offsetSec: BigInt(view.getInt32(8, this.#littleEndian)),
      name: undefined,
    });
    input.consume(PCAP_FILE_HEADER_LENGTH);
    return 'again';
  }

  #readRecord(input: InputBuffer): CapturedPacket | 'more' {
    const headerLength = this.#recordHeaderLength;
    if (input.available < headerLength) return 'more';
    const head = input.peek(headerLength);
    const view = new DataView(head.buffer, head.byteOffset, headerLength);
    const capturedLength = view.getUint32(8, this.#littleEndian);
    const originalLength = view.getUint32(12, this.#littleEndian);
    if (capturedLength > MAXIMUM_PACKET_LENGTH) {
      throw new CaptureError(
        'CAPTURE_TOO_LARGE',
        input.position,
        `record ${this.#count + 1} says that it holds ${capturedLength} bytes`,
        `no packet has more than ${MAXIMUM_PACKET_LENGTH}; the file is corrupt from here on`,
      );
    }
    if (input.available < headerLength + capturedLength) return 'more';
    const captureInterface = this.interfaces[0]!;
    const seconds = BigInt(view.getUint32(0, this.#littleEndian));
    const ticks = seconds * captureInterface.ticksPerSecond + BigInt(view.getUint32(4, this.#littleEndian));
    const data = input.peek(headerLength + capturedLength).slice(headerLength);
    input.consume(headerLength + capturedLength);
    this.#count++;
    return {
      number: this.#count,
      interfaceIndex: 0,
      linkType: captureInterface.linkType,
      timestampNs: ticksToNs(ticks, captureInterface),
      originalLength,
      data,
    };
  }

  describeRest(): string {
    return this.interfaces.length === 0 ? 'the file header' : `record ${this.#count + 1}`;
  }
}
