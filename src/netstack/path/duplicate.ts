/** Copies of packets for another host. Source: net/ipv4/netfilter/nf_dup_ipv4.c, net/ipv6/netfilter/nf_dup_ipv6.c. */
import { internetChecksum } from '../../wire/index.ts';
import { NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING } from '../hooks/family.ts';
import { ETH_P_IP, SkBuff } from '../skb.ts';
import { localOut } from './output.ts';
import type { NetworkStack } from './stack.ts';

const IP_DF = 0x40;

/**
 * Sends a copy to `gateway`, by `device` or, where that is empty, by the route to it. The copy is untracked and passes
 * LOCAL_OUT and POST_ROUTING; its hop count goes down where the packet has come in.
 */
export function duplicatePacket(
  stack: NetworkStack,
  skb: SkBuff,
  hook: number,
  gateway: Uint8Array,
  device: string,
): void {
  const ipv4 = skb.protocol === ETH_P_IP;
  const name = device === '' ? stack.fib(ipv4 ? 'ipv4' : 'ipv6')?.output(gateway) : device;
  const out = name === undefined ? undefined : stack.deviceByName(name);
  if (out === undefined) return;
  const data = skb.data.slice();
  const cameIn = hook === NF_INET_PRE_ROUTING || hook === NF_INET_LOCAL_IN;
  if (ipv4) {
    data[6]! |= IP_DF;
    if (cameIn) data[8]!--;
    data[10] = 0;
    data[11] = 0;
    const sum = internetChecksum(data.subarray(0, (data[0]! & 15) * 4));
    data[10] = sum >> 8;
    data[11] = sum & 0xff;
  } else if (cameIn) data[7]!--;
  const copy = new SkBuff(data, { protocol: skb.protocol, mark: skb.mark });
  copy.untracked = true;
  copy.outDevice = out;
  stack.enqueue(() => localOut(stack, copy));
}
