/** The netstack's reassembly in the shape that the evaluator asks for. */
import {
  type Clock,
  ETH_P_IP,
  ETH_P_IPV6,
  gatherLocalIpv4,
  ipv4DefragHook,
  ipv6DefragHook,
  NetworkNamespace,
  NF_ACCEPT,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  SkBuff,
} from '../../src/netstack/index.ts';
import type { Reassembler } from '../../src/rules/index.ts';

/** One namespace's queues; datagrams time out on the clock given. */
export function netstackReassembler(clock: Clock): Reassembler {
  // ICMP errors about lost fragments go nowhere.
  const net = new NetworkNamespace(1n, clock, { sendIcmpError: () => undefined });
  const device = { ifindex: 2, name: 'eth0', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
  net.addDevice(device);
  return {
    reassemble(fragment, family, where) {
      net.runTimers();
      const ipv4 = family === 'ipv4';
      const skb = new SkBuff(fragment, { protocol: ipv4 ? ETH_P_IP : ETH_P_IPV6, dev: device });
      if (where === 'delivery') return gatherLocalIpv4(net, skb) ? skb.data : undefined;
      const state = {
        hook: NF_INET_PRE_ROUTING,
        pf: ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6,
        in: device,
        out: undefined,
        sk: undefined,
        net,
        okfn: () => undefined,
      };
      const verdict = ipv4 ? ipv4DefragHook(net, skb, state) : ipv6DefragHook(net, skb, state);
      return verdict === NF_ACCEPT ? skb.data : undefined;
    },
  };
}
