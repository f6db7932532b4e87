/**
 * Taking descriptors over a unix socket (SOCK_SEQPACKET): a message is a label, perhaps ended by "#", with descriptors
 * (SCM_RIGHTS). The answer is `OK`, or `ERROR <code> <message>`. Registered is all of a message or nothing that its answer
 * does not say.
 */
import {
  type Fd,
  SeqpacketListener,
  type SeqpacketMessage,
  type SeqpacketSocket,
} from '../../kernel/index.ts';
import { isLabel } from '../../sklookup/index.ts';
import { SocketHostError } from './error.ts';
import type { SteerableSocket } from './inspect.ts';
import type { SocketSteering } from './steering.ts';

const POLL_MS = 20;
const MOST_CONNECTIONS = 64;

export interface ReceiverOptions {
  readonly path: string;
  /** Called when sockets can be sent. */
  readonly listening?: () => void;
  /** Told of every socket that was registered. */
  readonly registered?: (label: string, socket: SteerableSocket) => void;
}

/** Serves until `signal` aborts. @throws {SyscallError} EADDRINUSE when another process listens at the path */
export async function receiveSockets(
  steering: SocketSteering,
  options: ReceiverOptions,
  signal: AbortSignal,
): Promise<void> {
  const listener = new SeqpacketListener(options.path);
  const connections = new Set<SeqpacketSocket>();
  try {
    options.listening?.();
    while (!signal.aborted) {
      for (let next = listener.accept(); next !== undefined; next = listener.accept()) {
        if (connections.size < MOST_CONNECTIONS) connections.add(next);
        else next.close();
      }
      for (const connection of connections) {
        if (await serve(steering, connection, options)) continue;
        connections.delete(connection);
        connection.close();
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } finally {
    for (const connection of connections) connection.close();
    listener.close();
  }
}

/** Answers what has come; false when the connection is over. */
async function serve(
  steering: SocketSteering,
  connection: SeqpacketSocket,
  options: ReceiverOptions,
): Promise<boolean> {
  try {
    const message = connection.receive();
    if (message === 'none') return true;
    if (message === 'end') return false;
    connection.send(new TextEncoder().encode(await answer(steering, message, options)));
    return true;
  } catch {
    // The other side has gone without waiting for its answer.
    return false;
  }
}

async function answer(
  steering: SocketSteering,
  { data, descriptors, truncated }: SeqpacketMessage,
  options: ReceiverOptions,
): Promise<string> {
  try {
    const label = new TextDecoder().decode(data).replace(/[#\0\n]+$/, '');
    check(label, descriptors, truncated);
    for (const fd of descriptors) options.registered?.(label, await steering.register(fd, { label }));
    return 'OK';
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    return `ERROR ${typeof code === 'string' ? code : 'DEFECT'} ${error instanceof Error ? error.message : error}`;
  } finally {
    for (const fd of descriptors) fd.close();
  }
}

function check(label: string, descriptors: readonly Fd[], truncated: boolean): void {
  if (!isLabel(label)) {
    throw new SocketHostError('HOST_SOCKET_REFUSED', 'the message is no label', 'send the label alone');
  }
  if (descriptors.length === 0 || truncated) {
    throw new SocketHostError(
      'HOST_SOCKET_REFUSED',
      truncated ? 'too many descriptors came at once' : 'no descriptor came with the label',
      'pass them with SCM_RIGHTS in the same message',
    );
  }
}
