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

const [rate, seconds, json] = process.argv.slice(2);
const targets = JSON.parse(json).map(({ address, port, names }) => ({
  names,
  family: address.length === 16 ? AF_INET6 : AF_INET,
  endpoint: encodeEndpoint({ address: Uint8Array.from(address), port }),
}));
const TICK_MS = 5;
const ANSWER_MS = 10_000;
const SOCK_NONBLOCK = 0o4000;
const EAGAIN = 11;
const EINPROGRESS = 115;
const answers = {};
const failures = {};
/** Connections begun in each second. */
const begun = [];
let made = 0;
let open = [];
const buffer = new Uint8Array(64);
const start = performance.now();
let stopMs = Number(seconds) * 1000;
process.on('SIGTERM', () => {
  stopMs = Math.min(stopMs, performance.now() - start);
});

const count = (table, key) => {
  table[key] = (table[key] ?? 0) + 1;
};

function attempt(target, nowMs) {
  const fd = openSocket(target.family, SOCK_STREAM | SOCK_NONBLOCK, 0, 'a connection');
  const result = trySyscall('connect', fd.number, target.endpoint, target.endpoint.length);
  if (result < 0 && result !== -EINPROGRESS) {
    count(failures, `connect: errno ${-result}`);
    fd.close();
  } else open.push({ fd, target, text: '', deadlineMs: nowMs + ANSWER_MS });
  const second = Math.floor(nowMs / 1000);
  begun[second] = (begun[second] ?? 0) + 1;
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

process.stdout.write('started\n');
const timer = setInterval(() => {
  const elapsedMs = performance.now() - start;
  const due = Math.floor((Math.min(elapsedMs, stopMs) * Number(rate)) / 1000);
  // Behind schedule after a pause: not all at once, or the accept queue would be what is tested.
  for (let burst = 0; elapsedMs < stopMs && made < due && burst < 40; burst++)
    attempt(targets[made++ % targets.length], elapsedMs);
  open = open.filter((each) => harvest(each, elapsedMs));
  if (elapsedMs < stopMs || open.length > 0) return;
  clearInterval(timer);
  const perSecond = begun.slice(0, Math.floor(stopMs / 1000)).map((each) => each ?? 0);
  process.stdout.write(`${JSON.stringify({ made, answers, failures, perSecond })}\n`);
}, TICK_MS);
