export { type CapturedFrame, PacketSocket, type PacketSocketOptions, type PacketType } from './packet.ts';
export { RawSender, type RawSenderOptions } from './sender.ts';
export { Tun } from './tun.ts';
