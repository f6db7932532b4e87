/**
 * Makes new connections at a steady rate until SIGTERM: `RATE LONGEST_SECONDS TARGETS`, targets as JSON `[{host, port, names}]`. Each must be
 * answered by one of its names. Prints what happened as JSON.
 */
import { connect } from 'node:net';

const [rate, seconds, json] = process.argv.slice(2);
const targets = JSON.parse(json);
const TICK_MS = 5;
const answers = {};
const failures = {};
let made = 0;
let open = 0;
const start = performance.now();
let stopMs = Number(seconds) * 1000;
process.on('SIGTERM', () => {
  stopMs = performance.now() - start;
});
process.stdout.write('started\n');

function attempt(target) {
  open++;
  let text = '';
  let failed = false;
  const socket = connect({ host: target.host, port: target.port });
  socket.setTimeout(8000, () => socket.destroy(Object.assign(new Error('timeout'), { code: 'TIMEOUT' })));
  socket.on('data', (data) => {
    text += data;
  });
  socket.on('error', (error) => {
    failed = true;
    failures[error.code] = (failures[error.code] ?? 0) + 1;
  });
  socket.on('close', () => {
    open--;
    if (!failed && !target.names.includes(text))
      failures[`misrouted to "${text}"`] = (failures[`misrouted to "${text}"`] ?? 0) + 1;
    answers[text] = (answers[text] ?? 0) + 1;
  });
}

const timer = setInterval(() => {
  const elapsedMs = performance.now() - start;
  const due = Math.floor((Math.min(elapsedMs, stopMs) * Number(rate)) / 1000);
  // Behind schedule after a pause: not all at once, or the accept queue would be what is tested.
  for (let burst = 0; elapsedMs < stopMs && made < due && burst < 40; burst++)
    attempt(targets[made++ % targets.length]);
  if (elapsedMs >= stopMs && open === 0) {
    clearInterval(timer);
    process.stdout.write(
      `${JSON.stringify({ made, answers, failures, perSecond: Math.round((made * 1000) / stopMs) })}\n`,
    );
  }
}, TICK_MS);
