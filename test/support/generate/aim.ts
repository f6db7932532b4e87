/** What a condition of a rule says of packets, so that packets can be made that just meet it, or just do not. */
import type { Extension, Fragment, Shape, Transport } from './shape.ts';

/** Some fields of a packet. A transport replaces the whole transport, `ports` and the like only when it fits. */
export type Aim = Partial<
  Pick<
    Shape,
    | 'source'
    | 'destination'
    | 'inDevice'
    | 'tos'
    | 'ttl'
    | 'id'
    | 'ipOptions'
    | 'sourceMac'
    | 'destinationMac'
    | 'payloadBytes'
  >
> & {
  readonly fragment?: Fragment;
  readonly extensions?: readonly Extension[];
  readonly transport?: Transport;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly tcpFlags?: number;
  readonly tcpOptions?: Uint8Array;
  /** Total IP length wanted; the payload is made to fit. */
  readonly totalLength?: number;
};

/** The text of a condition or target, and packets at its boundaries. */
export interface Piece {
  readonly text: string;
  readonly aims: readonly Aim[];
}

/** The values at and beside the ends of a range, kept within [0, maximum]. */
export function boundaries(min: number, max: number, maximum: number): number[] {
  const values = [min - 1, min, min + 1, max - 1, max, max + 1].filter(
    (value) => value >= 0 && value <= maximum,
  );
  return [...new Set(values)];
}

/** Adds (or subtracts) one in network order. */
export function neighbour(address: Uint8Array, step: 1 | -1): Uint8Array {
  const bytes = address.slice();
  for (let at = bytes.length - 1; at >= 0; at--) {
    const value = bytes[at]! + step;
    bytes[at] = value & 0xff;
    if (value >= 0 && value <= 255) break;
  }
  return bytes;
}

/** Lays the fields of an aim over a packet. */
export function aimAt(shape: Shape, aim: Aim): Shape {
  const {
    sourcePort,
    destinationPort,
    tcpFlags,
    tcpOptions,
    totalLength,
    transport: wanted,
    ...fields
  } = aim;
  let transport = wanted ?? shape.transport;
  if (transport.kind === 'tcp' || transport.kind === 'ports' || transport.kind === 'sctp') {
    transport = {
      ...transport,
      ...(sourcePort === undefined ? {} : { sourcePort }),
      ...(destinationPort === undefined ? {} : { destinationPort }),
    };
  }
  if (transport.kind === 'tcp') {
    transport = {
      ...transport,
      ...(tcpFlags === undefined ? {} : { flags: tcpFlags }),
      ...(tcpOptions === undefined ? {} : { options: tcpOptions }),
    };
  }
  const aimed: Shape = { ...shape, ...fields, transport };
  return totalLength === undefined
    ? aimed
    : { ...aimed, payloadBytes: Math.max(0, totalLength - headersOf(aimed)) };
}

function headersOf(shape: Shape): number {
  const ip = shape.family === 'ipv4' ? 20 + Math.ceil(shape.ipOptions.length / 4) * 4 : 40;
  switch (shape.transport.kind) {
    case 'tcp':
      return ip + 20 + Math.ceil(shape.transport.options.length / 4) * 4;
    case 'raw':
      return ip;
    default:
      return ip + 8;
  }
}
