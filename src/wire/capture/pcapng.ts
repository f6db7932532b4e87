/** pcapng files (IETF draft-ietf-opsawg-pcapng). */
import type { InputBuffer } from './buffer.ts';
import {
  type CapturedPacket,
  CaptureError,
  type CaptureInterface,
  MAXIMUM_BLOCK_LENGTH,
  MAXIMUM_INTERFACES,
  MAXIMUM_PACKET_LENGTH,
  ticksToNs,
} from './model.ts';
import type { FormatParser } from './reader.ts';
import { decodeText } from './text.ts';

/** Block types that are read; others are skipped. */
export const PcapngBlock = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE: 1,
  PACKET: 2,
  SIMPLE_PACKET: 3,
  ENHANCED_PACKET: 6,
} as const;

/** Byte-order magic of a section header. */
export const PCAPNG_BYTE_ORDER_MAGIC = 0x1a2b3c4d;

const IF_NAME = 2;
const IF_TSRESOL = 9;
const IF_TSOFFSET = 14;

/** True when a file begins with a section header block, whose type reads the same in both byte orders. */
export function isPcapng(magic: Uint8Array): boolean {
  return magic[0] === 0x0a && magic[1] === 0x0d && magic[2] === 0x0d && magic[3] === 0x0a;
}

/** Reads blocks as they become complete. */
export class PcapngParser implements FormatParser {
  interfaces: CaptureInterface[] = [];
  #littleEndian = true;
  #inSection = false;
  #count = 0;

  next(input: InputBuffer): CapturedPacket | 'more' | 'again' {
    if (input.available < 12) return 'more';
    const head = input.peek(12);
    const isSection = isPcapng(head);
    if (isSection) this.#littleEndian = byteOrder(head, input.position);
    else if (!this.#inSection) throw corrupt(input.position, 'a block stands before any section header');
    const view = new DataView(head.buffer, head.byteOffset, 12);
    const type = view.getUint32(0, this.#littleEndian);
    const length = view.getUint32(4, this.#littleEndian);
    checkBlockLength(length, isSection ? 28 : 12, input.position);
    if (input.available < length) return 'more';
    const block = input.peek(length);
    const blockView = new DataView(block.buffer, block.byteOffset, length);
    const trailing = blockView.getUint32(length - 4, this.#littleEndian);
    if (trailing !== length) {
      throw corrupt(input.position, `a block's two lengths are ${length} and ${trailing}`);
    }
    const packet = this.#readBlock(type, blockView, input.position);
    input.consume(length);
    return packet ?? 'again';
  }

  describeRest(): string {
    return this.#inSection ? `the block after packet ${this.#count}` : 'the section header';
  }

  #readBlock(type: number, view: DataView, position: number): CapturedPacket | undefined {
    switch (type) {
      case PcapngBlock.SECTION_HEADER:
        this.#readSection(view, position);
        return undefined;
      case PcapngBlock.INTERFACE:
        this.#readInterface(view, position);
        return undefined;
      case PcapngBlock.ENHANCED_PACKET:
        return this.#readPacket(
          view,
          view.byteLength < 32 ? -1 : view.getUint32(8, this.#littleEndian),
          position,
        );
      case PcapngBlock.PACKET:
        return this.#readPacket(
          view,
          view.byteLength < 32 ? -1 : view.getUint16(8, this.#littleEndian),
          position,
        );
      case PcapngBlock.SIMPLE_PACKET:
        return this.#readSimplePacket(view, position);
      default:
        return undefined;
    }
  }

  #readSection(view: DataView, position: number): void {
    const major = view.getUint16(12, this.#littleEndian);
    const minor = view.getUint16(14, this.#littleEndian);
    // 1.2 was written by some tools and is 1.0.
    if (major !== 1 || (minor !== 0 && minor !== 2)) {
      const reason = `pcapng version ${major}.${minor}`;
      throw new CaptureError('CAPTURE_VERSION', position, reason, 'convert the file to pcapng 1.0');
    }
    this.#inSection = true;
    this.interfaces = [];
  }

  #readInterface(view: DataView, position: number): void {
    if (view.byteLength < 20) throw corrupt(position, 'an interface block is too short');
    if (this.interfaces.length >= MAXIMUM_INTERFACES) {
      const reason = `a section has more than ${MAXIMUM_INTERFACES} interfaces`;
      throw new CaptureError('CAPTURE_TOO_LARGE', position, reason, 'the file is corrupt from here on');
    }
    let ticksPerSecond = 1_000_000n;
    let offsetSec = 0n;
    let name: string | undefined;
    for (const { code, data } of options(view, 16, this.#littleEndian, position)) {
      if (code === IF_NAME) name = decodeText(data).replace(/\0+$/, '');
      else if (code === IF_TSRESOL && data.length === 1) ticksPerSecond = resolution(data[0]!, position);
      else if (code === IF_TSOFFSET && data.length === 8) {
        offsetSec = new DataView(data.buffer, data.byteOffset, 8).getBigInt64(0, this.#littleEndian);
      }
    }
    this.interfaces.push({
      linkType: view.getUint16(8, this.#littleEndian),
      snapLength: view.getUint32(12, this.#littleEndian),
      ticksPerSecond,
      offsetSec,
      name,
    });
  }

  /** Enhanced packet blocks, and the obsolete packet blocks, which differ only in how wide the interface id is. */
  #readPacket(view: DataView, interfaceIndex: number, position: number): CapturedPacket {
    if (interfaceIndex < 0) throw corrupt(position, 'a packet block is too short');
    const captureInterface = this.#interfaceOf(interfaceIndex, position);
    const high = BigInt(view.getUint32(12, this.#littleEndian));
    const ticks = (high << 32n) | BigInt(view.getUint32(16, this.#littleEndian));
    const capturedLength = view.getUint32(20, this.#littleEndian);
    const originalLength = view.getUint32(24, this.#littleEndian);
    const data = this.#packetData(view, 28, capturedLength, position);
    this.#count++;
    return {
      number: this.#count,
      interfaceIndex,
      linkType: captureInterface.linkType,
      timestampNs: ticksToNs(ticks, captureInterface),
      originalLength,
      data,
    };
  }

  #readSimplePacket(view: DataView, position: number): CapturedPacket {
    if (view.byteLength < 16) throw corrupt(position, 'a simple packet block is too short');
    const { linkType, snapLength } = this.#interfaceOf(0, position);
    const originalLength = view.getUint32(8, this.#littleEndian);
    const capturedLength = Math.min(originalLength, snapLength === 0 ? originalLength : snapLength);
    const data = this.#packetData(view, 12, capturedLength, position);
    this.#count++;
    return { number: this.#count, interfaceIndex: 0, linkType, timestampNs: undefined, originalLength, data };
  }

  #interfaceOf(index: number, position: number): CaptureInterface {
    const captureInterface = this.interfaces[index];
    if (captureInterface === undefined) {
      throw corrupt(position, `a packet names interface ${index} of ${this.interfaces.length}`);
    }
    return captureInterface;
  }

  #packetData(view: DataView, start: number, length: number, position: number): Uint8Array {
    if (length > MAXIMUM_PACKET_LENGTH) {
      const hint = `no packet has more than ${MAXIMUM_PACKET_LENGTH}; the file is corrupt from here on`;
      throw new CaptureError(
        'CAPTURE_TOO_LARGE',
        position,
        `a packet says that it holds ${length} bytes`,
        hint,
      );
    }
    if (start + length > view.byteLength - 4) throw corrupt(position, 'a packet is longer than its block');
    return new Uint8Array(view.buffer, view.byteOffset + start, length).slice();
  }
}

function corrupt(position: number, reason: string): CaptureError {
  return new CaptureError('CAPTURE_CORRUPT', position, reason, 'what came before it was read');
}

function byteOrder(head: Uint8Array, position: number): boolean {
  const view = new DataView(head.buffer, head.byteOffset, 12);
  if (view.getUint32(8, true) === PCAPNG_BYTE_ORDER_MAGIC) return true;
  if (view.getUint32(8, false) === PCAPNG_BYTE_ORDER_MAGIC) return false;
  throw corrupt(position, 'a section header has no byte-order magic');
}

function checkBlockLength(length: number, minimum: number, position: number): void {
  if (length > MAXIMUM_BLOCK_LENGTH) {
    const hint = `no block has more than ${MAXIMUM_BLOCK_LENGTH}; the file is corrupt from here on`;
    throw new CaptureError('CAPTURE_TOO_LARGE', position, `a block says that it has ${length} bytes`, hint);
  }
  if (length < minimum || length % 4 !== 0)
    throw corrupt(position, `a block says that it has ${length} bytes`);
}

/** if_tsresol: a negative power of 10, or of 2 when the top bit is set. */
function resolution(value: number, position: number): bigint {
  const exponent = value & 0x7f;
  const binary = (value & 0x80) !== 0;
  if (exponent > (binary ? 63 : 19))
    throw corrupt(position, `if_tsresol ${value} is finer than 64 bits can count`);
  return (binary ? 2n : 10n) ** BigInt(exponent);
}

function* options(
  view: DataView,
  start: number,
  littleEndian: boolean,
  position: number,
): Generator<{ readonly code: number; readonly data: Uint8Array }, void, undefined> {
  const end = view.byteLength - 4;
  for (let at = start; at + 4 <= end; ) {
    const code = view.getUint16(at, littleEndian);
    const length = view.getUint16(at + 2, littleEndian);
    if (code === 0) return;
    if (at + 4 + length > end) throw corrupt(position, `option ${code} is longer than its block`);
    yield { code, data: new Uint8Array(view.buffer, view.byteOffset + at + 4, length) };
    at += 4 + ((length + 3) & ~3);
  }
}
