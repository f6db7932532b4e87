/** Packets described by their fields, and the bytes they make. Everything has a right checksum unless it was cut. */
import type { Family } from '../../../src/net/index.ts';
import { computeSctpChecksum } from '../../../src/wire/index.ts';

export type Transport =
  | {
      readonly kind: 'tcp';
      readonly sourcePort: number;
      readonly destinationPort: number;
      readonly flags: number;
      /** Padded to a multiple of four with end-of-list. */
      readonly options: Uint8Array;
      readonly seq: number;
      readonly ack: number;
      readonly window: number;
    }
  /** UDP, UDP-Lite, DCCP: ports, then what the protocol has. */
  | {
      readonly kind: 'ports';
      readonly protocol: number;
      /** The number that its checksum's pseudo-header has; its own when absent. */
      readonly pseudoProtocol?: number;
      readonly sourcePort: number;
      readonly destinationPort: number;
    }
  | { readonly kind: 'icmp'; readonly type: number; readonly code: number; readonly id: number }
  | {
      readonly kind: 'sctp';
      readonly sourcePort: number;
      readonly destinationPort: number;
      readonly chunks: readonly SctpChunkShape[];
      /** Verification tag; 0 when absent. */
      readonly tag?: number;
    }
  | { readonly kind: 'esp'; readonly spi: number }
  | { readonly kind: 'ah'; readonly spi: number; readonly reserved: number; readonly words: number }
  | { readonly kind: 'raw'; readonly protocol: number };

export interface SctpChunkShape {
  readonly type: number;
  readonly flags: number;
  /** What its length field says. */
  readonly length: number;
  /** First four bytes of its value: the initiate tag of an INIT. */
  readonly word?: number;
}

/** An IPv6 extension header before the transport header. */
export type Extension =
  | { readonly kind: 'hop-by-hop' | 'routing' | 'destination'; readonly words: number }
  | { readonly kind: 'ah'; readonly spi: number; readonly reserved: number; readonly words: number };

export interface Fragment {
  /** In units of 8 bytes. */
  readonly offset: number;
  readonly more: boolean;
  /** IPv6: the reserved byte. */
  readonly reserved: number;
  /** IPv6: the two reserved bits beside the M flag, 0 to 3; 0 when absent. */
  readonly reservedBits?: number;
}

export interface Shape {
  readonly family: Family;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly tos: number;
  readonly ttl: number;
  /** IPv4 identification, IPv6 fragment identification. */
  readonly id: number;
  readonly dontFragment: boolean;
  readonly fragment?: Fragment;
  /** IPv4 options, padded to a multiple of four. */
  readonly ipOptions: Uint8Array;
  /** IPv6 extension headers in order, before the fragment header. */
  readonly extensions: readonly Extension[];
  readonly transport: Transport;
  readonly payloadBytes: number;
  /** What the payload is; a count from 0 up when absent. As long as `payloadBytes`. */
  readonly payload?: Uint8Array;
  /** The transport checksum is off by one. */
  readonly wrongChecksum?: boolean;
  /** Keep only this many bytes after the fixed IP header; the IP length says so, too. */
  readonly cutAt?: number;
  readonly inDevice: string;
  readonly sourceMac: Uint8Array;
  /** Absent: the device's own. */
  readonly destinationMac?: Uint8Array;
}

const EXTENSION_NUMBERS = { 'hop-by-hop': 0, routing: 43, destination: 60, ah: 51 } as const;
const FRAGMENT_HEADER = 44;

/** The protocol number of a transport; ICMP is 1 or 58 by family. */
export function protocolOf(transport: Transport, family: Family): number {
  switch (transport.kind) {
    case 'tcp':
      return 6;
    case 'ports':
    case 'raw':
      return transport.protocol;
    case 'icmp':
      return family === 'ipv4' ? 1 : 58;
    case 'sctp':
      return 132;
    case 'esp':
      return 50;
    case 'ah':
      return 51;
  }
}

/** The IP packet. A fragment at an offset carries payload where the transport header would be. */
export function buildPacket(shape: Shape): Uint8Array {
  const later = (shape.fragment?.offset ?? 0) > 0;
  const transport = later ? filler(shape.payloadBytes + 8) : transportBytes(shape);
  return shape.family === 'ipv4' ? ipv4(shape, transport) : ipv6(shape, transport);
}

function ipv4(shape: Shape, transport: Uint8Array): Uint8Array {
  const headerLength = 20 + padded(shape.ipOptions.length, 4);
  const body = new Uint8Array(headerLength - 20 + transport.length);
  body.set(shape.ipOptions);
  body.set(transport, headerLength - 20);
  // A header that does not fit is malformed, not cut: the stack drops it before any rule.
  const kept = shape.cutAt === undefined ? body.length : Math.max(headerLength - 20, shape.cutAt);
  const bytes = new Uint8Array(20 + Math.min(kept, body.length));
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 | (headerLength / 4);
  bytes[1] = shape.tos;
  view.setUint16(2, bytes.length);
  view.setUint16(4, shape.id & 0xffff);
  const { fragment } = shape;
  const flags = (shape.dontFragment ? 0x4000 : 0) | (fragment?.more === true ? 0x2000 : 0);
  view.setUint16(6, flags | (fragment?.offset ?? 0));
  bytes[8] = shape.ttl;
  bytes[9] = protocolOf(shape.transport, 'ipv4');
  bytes.set(shape.source, 12);
  bytes.set(shape.destination, 16);
  bytes.set(body.subarray(0, bytes.length - 20), 20);
  view.setUint16(10, internetChecksum(bytes.subarray(0, headerLength)));
  return bytes;
}

function ipv6(shape: Shape, transport: Uint8Array): Uint8Array {
  const headers: { readonly number: number; readonly bytes: Uint8Array }[] = shape.extensions.map(
    (extension) => ({
      number: EXTENSION_NUMBERS[extension.kind],
      bytes: extensionBytes(extension),
    }),
  );
  if (shape.fragment !== undefined) {
    const { offset, more, reserved, reservedBits = 0 } = shape.fragment;
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    bytes[1] = reserved;
    view.setUint16(2, (offset << 3) | (reservedBits << 1) | (more ? 1 : 0));
    view.setUint32(4, shape.id >>> 0);
    headers.push({ number: FRAGMENT_HEADER, bytes });
  }
  const last = protocolOf(shape.transport, 'ipv6');
  for (const [index, header] of headers.entries()) header.bytes[0] = headers[index + 1]?.number ?? last;
  const body = concatenate([...headers.map(({ bytes }) => bytes), transport]);
  const bytes = new Uint8Array(40 + Math.min(shape.cutAt ?? body.length, body.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (6 << 28) | (shape.tos << 20));
  view.setUint16(4, bytes.length - 40);
  bytes[6] = headers[0]?.number ?? last;
  bytes[7] = shape.ttl;
  bytes.set(shape.source, 8);
  bytes.set(shape.destination, 24);
  bytes.set(body.subarray(0, bytes.length - 40), 40);
  return bytes;
}

function extensionBytes(extension: Extension): Uint8Array {
  if (extension.kind === 'ah') return authenticationBytes(extension);
  const bytes = new Uint8Array(8 * (extension.words + 1));
  bytes[1] = extension.words;
  // Options are padding: PadN of at most 7 bytes in a hop-by-hop header of one word; a routing header is spent.
  if (extension.kind !== 'routing' && extension.words === 0) bytes.set([1, 4], 2);
  if (extension.kind !== 'routing' && extension.words > 0) {
    let at = 2;
    while (at < bytes.length) {
      // An unknown option that may be skipped, over and over: padding alone may not be that long.
      const length = Math.min(bytes.length - at, 40);
      bytes[at] = length === 1 ? 0 : 0x1e;
      if (length > 1) bytes[at + 1] = length - 2;
      at += length;
    }
  }
  return bytes;
}

function authenticationBytes(header: { spi: number; reserved: number; words: number }): Uint8Array {
  const bytes = new Uint8Array(4 * (header.words + 2));
  const view = new DataView(bytes.buffer);
  bytes[1] = header.words;
  if (bytes.length >= 8) {
    view.setUint16(2, header.reserved);
    view.setUint32(4, header.spi >>> 0);
  }
  return bytes;
}

function transportBytes(shape: Shape): Uint8Array {
  const { transport, payloadBytes } = shape;
  switch (transport.kind) {
    case 'tcp':
      return withChecksum(shape, tcpBytes(transport, payloadBytes), 16);
    case 'ports': {
      const bytes = new Uint8Array(8 + payloadBytes);
      const view = new DataView(bytes.buffer);
      view.setUint16(0, transport.sourcePort);
      view.setUint16(2, transport.destinationPort);
      view.setUint16(4, bytes.length);
      bytes.set(filler(payloadBytes), 8);
      return withChecksum(shape, bytes, 6);
    }
    case 'icmp': {
      const bytes = new Uint8Array(8 + payloadBytes);
      bytes[0] = transport.type;
      bytes[1] = transport.code;
      new DataView(bytes.buffer).setUint16(4, transport.id);
      bytes.set(shape.payload ?? filler(payloadBytes), 8);
      return withChecksum(shape, bytes, 2);
    }
    case 'sctp':
      return withSctpChecksum(shape, sctpBytes(transport));
    case 'esp': {
      const bytes = new Uint8Array(8 + payloadBytes);
      new DataView(bytes.buffer).setUint32(0, transport.spi >>> 0);
      return bytes;
    }
    case 'ah': {
      // What follows an authentication header is "no next header".
      const bytes = authenticationBytes(transport);
      bytes[0] = 59;
      return concatenate([bytes, filler(payloadBytes)]);
    }
    case 'raw':
      return filler(payloadBytes);
  }
}

function tcpBytes(tcp: Transport & { kind: 'tcp' }, payloadBytes: number): Uint8Array {
  const headerLength = 20 + padded(tcp.options.length, 4);
  const bytes = new Uint8Array(headerLength + payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, tcp.sourcePort);
  view.setUint16(2, tcp.destinationPort);
  view.setUint32(4, tcp.seq >>> 0);
  view.setUint32(8, tcp.ack >>> 0);
  bytes[12] = (headerLength / 4) << 4;
  bytes[13] = tcp.flags;
  view.setUint16(14, tcp.window);
  bytes.set(tcp.options, 20);
  bytes.set(filler(payloadBytes), headerLength);
  return bytes;
}

function sctpBytes(sctp: Transport & { kind: 'sctp' }): Uint8Array {
  const chunks = sctp.chunks.map(({ type, flags, length, word = 0 }) => {
    // A chunk may claim more than there is.
    const bytes = new Uint8Array(padded(Math.min(Math.max(4, length), 64), 4));
    bytes[0] = type;
    bytes[1] = flags;
    new DataView(bytes.buffer).setUint16(2, length);
    if (bytes.length >= 8) new DataView(bytes.buffer).setUint32(4, word >>> 0);
    return bytes;
  });
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  view.setUint16(0, sctp.sourcePort);
  view.setUint16(2, sctp.destinationPort);
  view.setUint32(4, (sctp.tag ?? 0) >>> 0);
  return concatenate([header, ...chunks]);
}

function withSctpChecksum(shape: Shape, bytes: Uint8Array): Uint8Array {
  const right = computeSctpChecksum(bytes);
  new DataView(bytes.buffer).setUint32(8, shape.wrongChecksum === true ? (right ^ 1) >>> 0 : right);
  return bytes;
}

/** Sets the checksum at `at`; for a first fragment it would cover bytes that are not here, and nobody can check it. */
function withChecksum(shape: Shape, bytes: Uint8Array, at: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint16(at, 0);
  const plain = shape.family === 'ipv4' && shape.transport.kind === 'icmp';
  const pseudo = plain
    ? new Uint8Array(0)
    : concatenate([
        shape.source,
        shape.destination,
        Uint8Array.of(0, 0, bytes.length >> 8, bytes.length & 0xff, 0, 0),
        Uint8Array.of(0, pseudoProtocolOf(shape)),
      ]);
  const padding = new Uint8Array(bytes.length % 2);
  const sum = internetChecksum(concatenate([pseudo, bytes, padding]));
  const right = sum === 0 && !plain ? 0xffff : sum;
  view.setUint16(at, shape.wrongChecksum === true ? right ^ 1 : right);
  return bytes;
}

function pseudoProtocolOf({ transport, family }: Shape): number {
  const own = transport.kind === 'ports' ? transport.pseudoProtocol : undefined;
  return own ?? protocolOf(transport, family);
}

function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function filler(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index & 0xff);
}

function padded(length: number, to: number): number {
  return Math.ceil(length / to) * to;
}
