/**
 * Makes new connections at a steady rate until SIGTERM: `RATE LONGEST_SECONDS TARGETS`, targets as JSON `[{address, port, names}]`
 * with addresses as arrays of bytes. Each must be answered by one of its names. Prints what happened as JSON.
 *
 * Plain non-blocking sockets: node:net would be what limits the rate.
 */
import {
  AF_INET,
  AF_INET6,
  encodeEndpoint,
  openSocket,
  SOCK_STREAM,
} from '../../../dist/kernel/sys/socket.js';
import { trySyscall } from '../../../dist/kernel/sys/syscall.js';
import { beginSteadily, count } from './steadily.mjs';

const [rate, seconds, json] = process.argv.slice(2);
const targets = JSON.parse(json).map(({ address, port, names }) => ({
  names,
  family: address.length === 16 ? AF_INET6 : AF_INET,
  endpoint: encodeEndpoint({ address: Uint8Array.from(address), port }),
}));
const ANSWER_MS = 60_000;
const SOCK_NONBLOCK = 0o4000;
const EAGAIN = 11;
const EINPROGRESS = 115;
const answers = {};
const failures = {};
const buffer = new Uint8Array(64);

function attempt(number, nowMs) {
  const target = targets[number % targets.length];
  const fd = openSocket(target.family, SOCK_STREAM | SOCK_NONBLOCK, 0, 'a connection');
  const result = trySyscall('connect', fd.number, target.endpoint, target.endpoint.length);
  if (result >= 0 || result === -EINPROGRESS) return { fd, target, text: '', deadlineMs: nowMs + ANSWER_MS };
  count(failures, `connect: errno ${-result}`);
  fd.close();
  return undefined;
}

/** Takes what has come; false when the connection is over. */
function harvest(each, nowMs) {
  for (;;) {
    const length = trySyscall('recvfrom', each.fd.number, buffer, buffer.length, 0, null, null);
    if (length > 0) {
      each.text += new TextDecoder().decode(buffer.subarray(0, length));
      continue;
    }
    if (length === -EAGAIN && nowMs < each.deadlineMs) return true;
    if (length === -EAGAIN) count(failures, 'no answer');
    else if (length < 0) count(failures, `errno ${-length}`);
    else {
      count(answers, each.text);
      if (!each.target.names.includes(each.text)) count(failures, `misrouted to "${each.text}"`);
    }
    each.fd.close();
    return false;
  }
}

beginSteadily({
  rate: Number(rate),
  seconds: Number(seconds),
  begin: attempt,
  harvest,
  told: () => ({ answers, failures }),
});
