/** Address resolution packets (RFC 826). */
import { concatenate, copyBytes, read8, read16, write16 } from './bytes.ts';
import { requireBits, WireError, type WireProblem } from './problem.ts';

/** Operations of RFC 826 and RFC 903. */
export const ArpOperation = { REQUEST: 1, REPLY: 2, RARP_REQUEST: 3, RARP_REPLY: 4 } as const;

/** A packet; hardware addresses have one length, protocol addresses another. */
export interface ArpPacket {
  readonly hardwareType: number;
  readonly protocolType: number;
  readonly operation: number;
  readonly senderHardware: Uint8Array;
  readonly senderProtocol: Uint8Array;
  readonly targetHardware: Uint8Array;
  readonly targetProtocol: Uint8Array;
}

/** What is wrong with the packet at `offset`, or `undefined`. */
export function checkArp(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  if (end - offset < 8) return 'truncated';
  return end - offset < 8 + 2 * (read8(bytes, offset + 4) + read8(bytes, offset + 5))
    ? 'truncated'
    : undefined;
}

/** Parses the packet; `undefined` when {@link checkArp} finds a problem. */
export function parseArp(bytes: Uint8Array, offset = 0, end: number = bytes.length): ArpPacket | undefined {
  if (checkArp(bytes, offset, end) !== undefined) return undefined;
  const hardware = read8(bytes, offset + 4);
  const protocol = read8(bytes, offset + 5);
  const sender = offset + 8;
  const target = sender + hardware + protocol;
  return {
    hardwareType: read16(bytes, offset),
    protocolType: read16(bytes, offset + 2),
    operation: read16(bytes, offset + 6),
    senderHardware: copyBytes(bytes, sender, sender + hardware),
    senderProtocol: copyBytes(bytes, sender + hardware, target),
    targetHardware: copyBytes(bytes, target, target + hardware),
    targetProtocol: copyBytes(bytes, target + hardware, target + hardware + protocol),
  };
}

/** The packet's bytes. Throws WireError when sender and target addresses differ in length, or do not fit. */
export function emitArp(packet: ArpPacket): Uint8Array {
  const { senderHardware, senderProtocol, targetHardware, targetProtocol } = packet;
  if (senderHardware.length !== targetHardware.length || senderProtocol.length !== targetProtocol.length) {
    throw new WireError(
      'arp sender and target addresses differ in length',
      'give both the length of their kind',
    );
  }
  requireBits('arp hardware address length', senderHardware.length, 8);
  requireBits('arp protocol address length', senderProtocol.length, 8);
  const head = new Uint8Array(8);
  write16(head, 0, packet.hardwareType);
  write16(head, 2, packet.protocolType);
  head[4] = senderHardware.length;
  head[5] = senderProtocol.length;
  write16(head, 6, packet.operation);
  return concatenate(head, senderHardware, senderProtocol, targetHardware, targetProtocol);
}
