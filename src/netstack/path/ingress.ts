/**
 * From the device to the protocol: XDP, tc ingress, netdev ingress. And back: netdev egress, tc egress, the wire.
 * Source: net/core/dev.c (__netif_receive_skb_core, __dev_queue_xmit), kernel/bpf/tcx.c.
 */
import { AttachType, type LinkProgram } from '../hooks/link/program.ts';
import { TCX_DROP, TCX_NEXT, TCX_REDIRECT } from '../hooks/link/tcx.ts';
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
  /** How long its link-layer header is. */
  readonly linkBytes: number;
  /** Where XDP_REDIRECT and TCX_REDIRECT send it; `ingress`: it comes in by that device. */
  readonly redirect?: { readonly ifindex: number; readonly ingress: boolean };
  readonly mark?: number;
  readonly priority?: number;
}

/** Runs a program at a device; the frame that it sees begins with the link-layer header. */
export type ProgramRunner = (
  program: LinkProgram,
  skb: SkBuff,
  device: NetDevice,
  attachType: number,
) => ProgramOutcome;

/** Makes the packet what the program left of it. */
function takeOutcome(skb: SkBuff, { frame, linkBytes, mark, priority }: ProgramOutcome): void {
  if (skb.mac !== undefined) skb.mac = frame.subarray(0, linkBytes);
  skb.data = frame.subarray(linkBytes);
  if (mark !== undefined) skb.mark = mark;
  if (priority !== undefined) skb.priority = priority;
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

/** One program a device; what it redirects leaves at once, past the stations of that device. */
function runXdp(stack: NetworkStack, skb: SkBuff, device: NetDevice): boolean {
  const link = stack.xdp.link(device.ifindex);
  const run = stack.runProgram;
  if (link === undefined || run === undefined) return true;
  const { program } = link;
  const outcome = run(program, skb, device, AttachType.XDP);
  const { verdict, redirect } = outcome;
  stack.trace?.({ kind: 'program', where: 'xdp', name: program.name, verdict });
  takeOutcome(skb, outcome);
  // The driver looks at the type of the frame when the program is done with it (eth_type_trans).
  if (skb.mac !== undefined) skb.protocol = etherType(skb.mac);
  if (verdict === XdpAction.PASS) return true;
  const target =
    verdict === XdpAction.TX
      ? device
      : verdict === XdpAction.REDIRECT && redirect !== undefined
        ? stack.net.deviceByIndex(redirect.ifindex)
        : undefined;
  if (target === undefined) stack.drop('xdp');
  else stack.emit(target, skb.data, skb);
  return false;
}

function etherType(mac: Uint8Array): number {
  return ((mac[mac.length - 2] ?? 0) << 8) | (mac[mac.length - 1] ?? 0);
}

/** The classifiers of one side, in order, until one decides (tcx_run). */
function runClassifiers(stack: NetworkStack, skb: SkBuff, device: NetDevice, attachType: number): boolean {
  const run = stack.runProgram;
  if (run === undefined) return true;
  const where = attachType === AttachType.TCX_INGRESS ? 'tc-ingress' : 'tc-egress';
  for (const { program } of stack.tcx.query(device.ifindex, attachType).links) {
    const outcome = run(program, skb, device, attachType);
    const { verdict, redirect } = outcome;
    stack.trace?.({ kind: 'program', where, name: program.name, verdict });
    takeOutcome(skb, outcome);
    if (verdict === TCX_NEXT) continue;
    if (verdict === TCX_REDIRECT) {
      redirectPacket(stack, skb, redirect);
      return false;
    }
    if (verdict === TCX_DROP) stack.drop('tc');
    // Every other number lets it pass, as TCX_PASS does.
    return verdict !== TCX_DROP;
  }
  return true;
}

/** skb_do_redirect() */
function redirectPacket(stack: NetworkStack, skb: SkBuff, redirect: ProgramOutcome['redirect']): void {
  const target = redirect === undefined ? undefined : stack.net.deviceByIndex(redirect.ifindex);
  if (target === undefined) stack.drop('tc');
  else if (redirect?.ingress === true) stack.enqueue(() => receiveFromDevice(stack, skb, target));
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
