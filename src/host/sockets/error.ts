/** What can go wrong with socket steering; the codes are stable. */

/** The codes, with what each means. */
export const SOCKET_HOST_CODES = {
  HOST_ACTIVATION: "The environment's LISTEN_ variables are missing or wrong",
  HOST_SOCKETS_BROKEN: 'Pins of the socket tables are missing or of another kind',
  HOST_SOCKETS_BUSY: 'Another command is changing the socket tables',
  HOST_SOCKETS_DEVICE: 'A binding names a device that the namespace does not have',
  HOST_SOCKETS_NOT_LOADED: 'The namespace has no socket tables: load first',
  HOST_SOCKETS_NO_BINDING: 'There is no such binding',
  HOST_SOCKETS_NO_SOCKET:
    'There is no such socket: in the process, among the registered ones, among the descriptors',
  HOST_SOCKET_NETNS: 'The socket belongs to another network namespace',
  HOST_SOCKET_NOT_INET: 'The descriptor is no socket of IPv4 or IPv6',
  HOST_SOCKET_PROTOCOL: 'The socket is neither TCP nor UDP',
  HOST_SOCKET_REFUSED: 'The kernel refuses the socket, or the message that brought it says no label',
  HOST_SOCKET_STATE: 'A TCP socket that does not listen, or a UDP socket that is connected or not bound',
} as const;
export type SocketHostCode = keyof typeof SOCKET_HOST_CODES;

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
