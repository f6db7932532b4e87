/**
 * From the device to the protocol: XDP, tc ingress, netdev ingress. And back: netdev egress, tc egress, the wire.
 * Source: net/core/dev.c (__netif_receive_skb_core, __dev_queue_xmit), kernel/bpf/tcx.c.
 */
import { AttachType, type LinkProgram } from '../hooks/link/program.ts';
import { TCX_DROP, TCX_NEXT, TCX_PASS } from '../hooks/link/tcx.ts';
import { ETH_P_IP, ETH_P_IPV6, type NetDevice, PacketType, SkBuff } from '../skb.ts';
import { receiveIpv4Packet } from './ipv4.ts';
import { receiveIpv6Packet } from './ipv6.ts';
import type { NetworkStack } from './stack.ts';

export const XdpAction = { ABORTED: 0, DROP: 1, PASS: 2, TX: 3, REDIRECT: 4 } as const;

/** What a program at a device made of a frame. */
export interface ProgramOutcome {
  readonly verdict: number;
  /** The frame afterwards: programs may rewrite, cut and extend it. */
  readonly frame: Uint8Array;
  /** Where XDP_REDIRECT and TCX_REDIRECT send it. */
  readonly redirectIfindex?: number;
  readonly mark?: number;
}

/** Runs a program at a device; `skb` lends its metadata, the frame begins with the link-layer header. */
export type ProgramRunner = (
  program: LinkProgram,
  frame: Uint8Array,
  skb: SkBuff,
  device: NetDevice,
  attachType: number,
) => ProgramOutcome;

function frameOf(skb: SkBuff): Uint8Array {
  if (skb.mac === undefined) return skb.data;
  const frame = new Uint8Array(skb.mac.length + skb.data.length);
  frame.set(skb.mac);
  frame.set(skb.data, skb.mac.length);
  return frame;
}

function takeFrame(skb: SkBuff, frame: Uint8Array): void {
  const length = skb.mac?.length ?? 0;
  if (length > 0) skb.mac = frame.subarray(0, length);
  skb.data = frame.subarray(length);
}

/** A packet that came by a device, up to its protocol. */
export function receiveFromDevice(stack: NetworkStack, skb: SkBuff, device: NetDevice): void {
  skb.dev = device;
  stack.trace?.({ kind: 'received', device: device.name });
  if (!runXdp(stack, skb, device)) return;
  if (!runClassifiers(stack, skb, device, AttachType.TCX_INGRESS)) return;
  const up = (accepted: SkBuff): void => toProtocol(stack, accepted);
  if (stack.net.netfilter.ingress(skb, device, up) === 1) up(skb);
}

function toProtocol(stack: NetworkStack, skb: SkBuff): void {
  if (skb.protocol === ETH_P_IP) receiveIpv4Packet(stack, skb);
  else if (skb.protocol === ETH_P_IPV6) receiveIpv6Packet(stack, skb);
}

function runXdp(stack: NetworkStack, skb: SkBuff, device: NetDevice): boolean {
  const link = stack.xdp.link(device.ifindex);
  const run = stack.runProgram;
  if (link === undefined || run === undefined) return true;
  const { program } = link;
  const { verdict, frame, redirectIfindex } = run(program, frameOf(skb), skb, device, AttachType.XDP);
  stack.trace?.({ kind: 'program', where: 'xdp', name: program.name, verdict });
  takeFrame(skb, frame);
  if (verdict === XdpAction.PASS) return true;
  if (verdict === XdpAction.TX) stack.emit(device, skb.data, skb);
  else if (verdict === XdpAction.REDIRECT && redirectIfindex !== undefined)
    redirect(stack, skb, redirectIfindex);
  else stack.drop('xdp');
  return false;
}

/** The classifiers of one side, in order, until one decides (tcx_run). */
function runClassifiers(stack: NetworkStack, skb: SkBuff, device: NetDevice, attachType: number): boolean {
  const run = stack.runProgram;
  if (run === undefined) return true;
  const where = attachType === AttachType.TCX_INGRESS ? 'tc-ingress' : 'tc-egress';
  for (const { program } of stack.tcx.query(device.ifindex, attachType).links) {
    const { verdict, frame, redirectIfindex, mark } = run(program, frameOf(skb), skb, device, attachType);
    stack.trace?.({ kind: 'program', where, name: program.name, verdict });
    takeFrame(skb, frame);
    if (mark !== undefined) skb.mark = mark;
    if (verdict === TCX_NEXT) continue;
    if (verdict === TCX_DROP) {
      stack.drop('tc');
      return false;
    }
    if (redirectIfindex !== undefined) {
      redirect(stack, skb, redirectIfindex);
      return false;
    }
    // Every other number lets it pass, as TCX_PASS does.
    if (verdict >= TCX_PASS) return true;
  }
  return true;
}

function redirect(stack: NetworkStack, skb: SkBuff, ifindex: number): void {
  const target = stack.net.deviceByIndex(ifindex);
  if (target === undefined) stack.drop('tc');
  else transmit(stack, skb, target);
}

/** A finished packet leaves by a device; by `lo` it comes in again. */
export function transmit(stack: NetworkStack, skb: SkBuff, device: NetDevice): void {
  const out = (passed: SkBuff): void => {
    if (!runClassifiers(stack, passed, device, AttachType.TCX_EGRESS)) return;
    stack.emit(device, passed.data, passed);
    if (!device.loopback) return;
    const looped = new SkBuff(passed.data, { protocol: passed.protocol, dev: device, mark: passed.mark });
    looped.takeMetadata(passed);
    looped.pktType = PacketType.HOST;
    stack.enqueue(() => receiveFromDevice(stack, looped, device));
  };
  const result = stack.net.netfilter.egress(skb, device, out);
  if (result === 'pass') out(skb);
}
