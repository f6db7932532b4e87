/** poll(2) without blocking the JavaScript thread. */
import { driver } from '../ffi/index.ts';
import type { Fd } from './fd.ts';

const POLLIN = 1;
/** struct pollfd. */
const POLLFD_BYTES = 8;

/** {@link pollAnyReadable} of one descriptor. */
export async function pollReadable(fd: Fd, timeoutMs: number): Promise<boolean> {
  return await pollAnyReadable([fd], timeoutMs);
}

/**
 * Resolves true when one of `fds` becomes readable or hangs up, false after `timeoutMs`. Takes one of libuv's pool threads
 * for as long (there are four by default), so ask in steps of a few hundred milliseconds; do not close them meanwhile.
 */
export async function pollAnyReadable(fds: readonly Fd[], timeoutMs: number): Promise<boolean> {
  const bytes = new Uint8Array(Math.max(1, fds.length) * POLLFD_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, { number }] of fds.entries()) {
    view.setInt32(index * POLLFD_BYTES, number, true);
    view.setUint16(index * POLLFD_BYTES + 4, POLLIN, true);
  }
  const ready = await driver().pollAsync(bytes, fds.length, Math.max(0, Math.floor(timeoutMs)));
  return ready > 0;
}
