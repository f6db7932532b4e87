/** How a captured packet meets this host: sent by it or come in, by which device. */
import { type Family, prefixContainsBytes } from '../../net/index.ts';
import { PacketType } from '../../netstack/index.ts';
import type { ReplayPacket } from './capture.ts';
import type { ReplayOptions } from './engine.ts';
import { DEFAULT_DEVICE } from './host.ts';

export interface Arrival {
  readonly family: Family;
  readonly bytes: Uint8Array;
  /** This host sent it. */
  readonly sent: boolean;
  /** Device that it came in by, or would have. */
  readonly inDevice: string;
  /** PACKET_* as rules see it: what a host sends is PACKET_HOST until it is on its way out of the device. */
  readonly packetType: number;
}

/** A word for a packet that no rule is asked about. */
export function arrivalOf(options: ReplayOptions, packet: ReplayPacket): Arrival | string {
  const { ip } = packet;
  if (ip === undefined) return 'not-ip';
  if (packet.tagged) return 'vlan';
  const { family, bytes } = ip;
  if (!options.rulesets.some((ruleset) => ruleset.family === family)) return `no-${family}-rules`;
  const inDevice = options.inDevice ?? packet.device ?? DEFAULT_DEVICE;
  const sent = isSent(options, packet, ip);
  const { vantage } = options;
  const leaves = vantage.kind === 'chain' ? vantage.chain === 'OUTPUT' : sent;
  const known = leaves || packet.packetType === PacketType.OUTGOING ? PacketType.HOST : packet.packetType;
  return { family, bytes, sent, inDevice, packetType: known };
}

/** Cooked captures say what was sent; elsewhere it is what has one of our addresses as its source. */
function isSent({ vantage }: ReplayOptions, { packetType }: ReplayPacket, ip: IpPacket): boolean {
  if (packetType === PacketType.OUTGOING) return true;
  if (vantage.kind !== 'host' || vantage.local.length === 0) return false;
  const source = sourceOf(ip);
  return vantage.local.some((prefix) => prefixContainsBytes(prefix, source));
}

type IpPacket = { readonly family: Family; readonly bytes: Uint8Array };

function sourceOf({ family, bytes }: IpPacket): Uint8Array {
  return family === 'ipv4' ? bytes.subarray(12, 16) : bytes.subarray(8, 24);
}

export function destinationOf({ family, bytes }: IpPacket): Uint8Array {
  return family === 'ipv4' ? bytes.subarray(16, 20) : bytes.subarray(24, 40);
}

/** At which chains packets have a device that they came in by, and at which one that they leave by. */
export const COMES_IN: ReadonlySet<string> = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'POSTROUTING']);
export const GOES_OUT: ReadonlySet<string> = new Set(['FORWARD', 'OUTPUT', 'POSTROUTING']);
