/** One rtnetlink exchange in the calling thread's namespace. */
import { NETLINK_ROUTE, type NetlinkRequest, NetlinkSocket } from './socket.ts';

export function withRouteSocket<T>(use: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket(NETLINK_ROUTE);
  try {
    return use(socket);
  } finally {
    socket.close();
  }
}

export function routeRequest(request: NetlinkRequest, what: string): void {
  withRouteSocket((socket) => socket.request(request, what));
}
