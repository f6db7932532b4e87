/**
 * Begins UDP flows at a steady rate until SIGTERM: `RATE LONGEST_SECONDS TARGETS`, targets as JSON `[{address, port}]` with
 * addresses as arrays of bytes. Each flow goes to an address of its own below its target's, so that none is like an earlier
 * one; every tenth goes on for about a second. A datagram without an answer is sent again, as UDP clients do. Prints as JSON
 * who answered which flows, and when flows were answered by somebody else than before.
 */
import {
  AF_INET,
  AF_INET6,
  encodeEndpoint,
  openSocket,
  SOCK_DGRAM,
  setSocketOption,
} from '../../../dist/kernel/sys/socket.js';
import { trySyscall } from '../../../dist/kernel/sys/syscall.js';
import { beginSteadily, count } from './steadily.mjs';

const [rate, seconds, json] = process.argv.slice(2);
const targets = JSON.parse(json);
const AGAIN_MS = 500;
const ANSWER_MS = 60_000;
const LONG_EVERY = 10;
const LONG_DATAGRAMS = 4;
const PAUSE_MS = 300;
const SOCK_NONBLOCK = 0o4000;
const EAGAIN = 11;
const ON = Uint8Array.of(1, 0, 0, 0);
const failures = {};
/** By the name that answered first: how many flows, and when the first and the last of them were begun. */
const flows = {};
const moves = [];
let answered = 0;
const buffer = new Uint8Array(64);

function begin(number, nowMs) {
  const { address, port } = targets[number % targets.length];
  const own = Uint8Array.from(address);
  // The two last bytes are the flow's own; 0 and 255 may be addresses of networks.
  own[own.length - 2] = 1 + (Math.floor(number / 254) % 254);
  own[own.length - 1] = 1 + (number % 254);
  const six = own.length === 16;
  const fd = openSocket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0, 'a flow');
  // IP_RECVERR, IPV6_RECVERR: to hear of a refusal.
  setSocketOption(fd, six ? 41 : 0, six ? 25 : 11, ON);
  const flow = {
    fd,
    endpoint: encodeEndpoint({ address: own, port }),
    left: Math.floor(number / targets.length) % LONG_EVERY === 0 ? LONG_DATAGRAMS : 1,
    number: 0,
    begunMs: Date.now(),
    sendMs: nowMs,
  };
  send(flow, nowMs);
  return flow;
}

function send(flow, nowMs) {
  const text = new TextEncoder().encode(String(flow.number));
  const { fd, endpoint } = flow;
  const result = trySyscall('sendto', fd.number, text, text.length, 0, endpoint, endpoint.length);
  if (result < 0 && result !== -EAGAIN) count(failures, `sendto: errno ${-result}`);
  flow.waiting = true;
  flow.againMs = nowMs + AGAIN_MS;
  flow.deadlineMs ??= nowMs + ANSWER_MS;
}

/** Takes what has come; false when the flow is over. */
function harvest(flow, nowMs) {
  if (!flow.waiting) {
    if (nowMs >= flow.sendMs) send(flow, nowMs);
    return true;
  }
  for (;;) {
    const length = trySyscall('recvfrom', flow.fd.number, buffer, buffer.length, 0, null, null);
    if (length > 0) {
      const [name, number] = new TextDecoder().decode(buffer.subarray(0, length)).split(' ');
      // The answer to what was sent twice may come twice.
      if (number !== String(flow.number)) continue;
      note(flow, name);
      flow.number++;
      flow.left--;
      flow.waiting = false;
      flow.deadlineMs = undefined;
      flow.sendMs = nowMs + PAUSE_MS;
      if (flow.left > 0) return true;
    } else if (length === -EAGAIN && nowMs < flow.deadlineMs) {
      if (nowMs >= flow.againMs) send(flow, nowMs);
      return true;
    } else count(failures, length === -EAGAIN ? 'no answer' : `errno ${-length}`);
    flow.fd.close();
    return false;
  }
}

function note(flow, name) {
  answered++;
  if (flow.name === undefined) {
    flows[name] ??= { count: 0, firstMs: flow.begunMs, lastMs: flow.begunMs };
    flows[name].count++;
    flows[name].firstMs = Math.min(flows[name].firstMs, flow.begunMs);
    flows[name].lastMs = Math.max(flows[name].lastMs, flow.begunMs);
  } else if (flow.name !== name) moves.push({ from: flow.name, to: name, atMs: Date.now() });
  flow.name = name;
}

beginSteadily({
  rate: Number(rate),
  seconds: Number(seconds),
  begin,
  harvest,
  told: () => ({ answered, flows, moves, failures }),
});
