export { type CapturedFrame, PacketSocket, type PacketSocketOptions, type PacketType } from './packet.ts';
export { Tun } from './tun.ts';
