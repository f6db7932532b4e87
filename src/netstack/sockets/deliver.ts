/** From a packet that has passed LOCAL_IN to its socket: the end of the packet path (tcp_v4_rcv, __udp4_lib_rcv). */
import type { Delivery } from '../path/stack.ts';
import { ETH_P_IPV6, type SkBuff } from '../skb.ts';
import { IPPROTO_TCP, IPPROTO_UDP, NetSocket } from './socket.ts';
import type { SocketTable } from './table.ts';

/** A packet that found its socket. */
export type SocketReceiver = (socket: NetSocket, skb: SkBuff) => void;

/** What the stack's `deliver` wants: looks TCP and UDP up, takes the rest. */
export function deliverToSockets(
  table: SocketTable,
  received: SocketReceiver,
): (skb: SkBuff, protocol: number) => Delivery {
  return (skb, protocol) => {
    if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return 'accepted';
    // Assigned before routing (TPROXY): it takes the packet, whoever it is addressed to.
    if (skb.socket instanceof NetSocket) {
      received(skb.socket, skb);
      return 'accepted';
    }
    const six = skb.protocol === ETH_P_IPV6;
    const { data } = skb;
    const transport = six ? skb.transportOffset : (data[0]! & 15) * 4;
    if (data.length < transport + 8) return 'no-port';
    const port = (at: number): number => (data[transport + at]! << 8) | data[transport + at + 1]!;
    const socket = table.lookup({
      protocol,
      remoteAddress: six ? data.subarray(8, 24) : data.subarray(12, 16),
      remotePort: port(0),
      localAddress: six ? data.subarray(24, 40) : data.subarray(16, 20),
      localPort: port(2),
      ingressIfindex: skb.dev?.loopback === true ? skb.dev.ifindex : skb.iif,
    });
    if (socket === undefined) return 'no-port';
    received(socket, skb);
    return 'accepted';
  };
}
