/** Registering sockets of Node itself: net.Server and dgram.Socket. */
import type { Socket as DatagramSocket } from 'node:dgram';
import type { Server } from 'node:net';
import { Fd } from '../../kernel/index.ts';
import { SocketHostError } from './error.ts';
import type { SteerableSocket } from './inspect.ts';
import type { RegisterOptions, SocketSteering } from './steering.ts';

/** libuv handles show their descriptor; there is no other way to it. */
interface Handle {
  readonly fd?: number;
}

/**
 * Registers a server that listens, or a datagram socket that is bound. Close either as ever: it is gone from the tables.
 * @throws {SocketHostError} `HOST_SOCKET_STATE` when it is not listening or bound yet, or the handle shows no descriptor
 */
export async function registerNodeSocket(
  steering: SocketSteering,
  socket: Server | DatagramSocket,
  options: RegisterOptions,
): Promise<SteerableSocket> {
  const number = descriptorOf(socket);
  if (number === undefined || number < 0) {
    throw new SocketHostError(
      'HOST_SOCKET_STATE',
      'the socket has no descriptor yet',
      'register it in the "listening" event; sockets of cluster workers belong to the primary process',
    );
  }
  // The descriptor stays Node's: it is lent to the call, never closed.
  const fd = new Fd(number, 'the given socket');
  try {
    return await steering.register(fd, options);
  } finally {
    fd.release();
  }
}

/** A datagram socket keeps its handle in a state behind a symbol (its `_handle` is deprecated), a server in `_handle`. */
function descriptorOf(socket: Server | DatagramSocket): number | undefined {
  const symbol = Object.getOwnPropertySymbols(socket).find(
    ({ description }) => description === 'state symbol',
  );
  if (symbol !== undefined) {
    const state = (socket as unknown as Record<symbol, { readonly handle?: Handle | null }>)[symbol];
    return state?.handle?.fd;
  }
  return (socket as unknown as { readonly _handle?: Handle | null })._handle?.fd;
}
