/** poll(2) on one descriptor, without blocking the JavaScript thread. */
import { driver } from '../ffi/index.ts';
import type { Fd } from './fd.ts';

const POLLIN = 1;

/**
 * Resolves true when `fd` becomes readable or hangs up, false after `timeoutMs`. Takes one of libuv's pool threads for
 * as long (there are four by default), so ask in steps of a few hundred milliseconds; do not close `fd` meanwhile.
 */
export async function pollReadable(fd: Fd, timeoutMs: number): Promise<boolean> {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, fd.number, true);
  view.setUint16(4, POLLIN, true);
  const ready = await driver().pollAsync(bytes, 1, Math.max(0, Math.floor(timeoutMs)));
  return ready > 0;
}
