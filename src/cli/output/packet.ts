import type { ReplayPacket } from '../../host/index.ts';
import { Frame, loadFrame, printFrameLine } from '../../wire/index.ts';

const frame = new Frame();

/** Number, seconds since the first packet, and the packet in one line. */
export function packetLine(packet: ReplayPacket): string {
  loadFrame(frame, packet.frame, packet.linkType);
  return `${String(packet.number).padStart(5)} ${(packet.timeMs / 1000).toFixed(6).padStart(11)}  ${printFrameLine(frame)}`;
}
