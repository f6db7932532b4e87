/** What can go wrong with socket steering; the codes are stable. */

/**
 * - `HOST_SOCKETS_NOT_LOADED`   the namespace has no socket tables: load first
 * - `HOST_SOCKETS_BUSY`         another command is changing them
 * - `HOST_SOCKETS_BROKEN`       pins are missing or of another kind
 * - `HOST_SOCKETS_DEVICE`       a binding names a device that the namespace does not have
 * - `HOST_SOCKETS_NO_BINDING`   there is no such binding
 * - `HOST_SOCKETS_NO_SOCKET`    no such socket: in the process, among the registered ones, among the descriptors
 * - `HOST_SOCKET_NOT_INET`      the descriptor is no socket of IPv4 or IPv6
 * - `HOST_SOCKET_PROTOCOL`      the socket is neither TCP nor UDP
 * - `HOST_SOCKET_STATE`         a TCP socket that does not listen, or a UDP socket that is connected or not bound
 * - `HOST_SOCKET_NETNS`         the socket belongs to another network namespace
 * - `HOST_SOCKET_REFUSED`       the kernel refuses the socket
 * - `HOST_ACTIVATION`           the environment's LISTEN_ variables are missing or wrong
 */
export type SocketHostCode =
  | 'HOST_SOCKETS_NOT_LOADED'
  | 'HOST_SOCKETS_BUSY'
  | 'HOST_SOCKETS_BROKEN'
  | 'HOST_SOCKETS_DEVICE'
  | 'HOST_SOCKETS_NO_BINDING'
  | 'HOST_SOCKETS_NO_SOCKET'
  | 'HOST_SOCKET_NOT_INET'
  | 'HOST_SOCKET_PROTOCOL'
  | 'HOST_SOCKET_STATE'
  | 'HOST_SOCKET_NETNS'
  | 'HOST_SOCKET_REFUSED'
  | 'HOST_ACTIVATION';

export class SocketHostError extends Error {
  readonly code: SocketHostCode;
  readonly hint: string;
  constructor(code: SocketHostCode, message: string, hint: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SocketHostError';
    this.code = code;
    this.hint = hint;
  }
}
