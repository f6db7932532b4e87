/** Small packets whose addresses, ports and lengths a number each chooses: for tests of what is looked up. */
import fc from 'fast-check';
import type { Family } from '../../src/net/index.ts';

export interface PacketShape {
  /** 1 to 255: an address of 10.0.0.0/15 or 2001:db8::/32. */
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Bytes behind the IP header. */
  readonly cut: number;
  /** Fragment offset in units of 8 bytes. */
  readonly fragment: number;
  readonly mark: number;
  readonly device: string;
  readonly ethernet: Uint8Array | undefined;
}

/** Headers with few different values, so that packets meet each other's entries. */
export const HEADERS = {
  source: fc.integer({ min: 1, max: 9 }),
  destination: fc.integer({ min: 1, max: 9 }),
  protocol: fc.constantFrom(6, 17, 1, 58, 47, 132),
  sourcePort: fc.constantFrom(80, 53, 1000),
  destinationPort: fc.constantFrom(80, 53, 1000),
  cut: fc.constantFrom(40, 40, 40, 10, 3),
};

export function packetFor(family: Family, shape: PacketShape): Uint8Array {
  const { protocol, cut } = shape;
  const body = new Uint8Array(cut);
  const view = new DataView(body.buffer);
  if (cut >= 2) view.setUint16(0, protocol === 1 ? 0x0800 : protocol === 58 ? 0x8000 : shape.sourcePort);
  if (cut >= 4) view.setUint16(2, shape.destinationPort);
  if (cut >= 13) view.setUint8(12, 0x50);
  if (family === 'ipv4') {
    const packet = new Uint8Array(20 + cut);
    const header = new DataView(packet.buffer);
    header.setUint8(0, 0x45);
    header.setUint16(2, packet.length);
    header.setUint16(6, shape.fragment);
    header.setUint8(8, 64);
    header.setUint8(9, protocol);
    packet.set(address4(shape.source), 12);
    packet.set(address4(shape.destination), 16);
    packet.set(body, 20);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += header.getUint16(at);
    header.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)));
    return packet;
  }
  const fragmented = shape.fragment > 0;
  const packet = new Uint8Array(40 + (fragmented ? 8 : 0) + cut);
  const header = new DataView(packet.buffer);
  header.setUint8(0, 0x60);
  header.setUint16(4, packet.length - 40);
  header.setUint8(6, fragmented ? 44 : protocol);
  header.setUint8(7, 64);
  packet.set(address6(shape.source), 8);
  packet.set(address6(shape.destination), 24);
  if (fragmented) {
    header.setUint8(40, protocol);
    header.setUint16(42, shape.fragment << 3);
  }
  packet.set(body, packet.length - cut);
  return packet;
}

function address4(number: number): Uint8Array {
  return Uint8Array.of(10, number > 7 ? 1 : 0, number % 2 === 0 ? 1 : 0, number);
}

function address6(number: number): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set([0x20, 0x01, 0x0d, 0xb8, 0, number % 2 === 0 ? 1 : 0]);
  bytes[15] = number;
  return bytes;
}
