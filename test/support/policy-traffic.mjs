/**
 * Traffic until its input ends: datagrams to ports 5000 and 5001 of a host in turn, and one TCP connection over which
 * numbered lines go there and back. Arguments: host, packets a second, "serve" (the connection's other end) or "connect".
 * Prints JSON of { sent: [to 5000, to 5001], lines: there and back without a fault }.
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

const PORT = 7000;
const MOST_AT_ONCE = 400;
const [host, rate, role] = process.argv.slice(2);
const sent = [0, 0];
let lines = 0;
let running = true;

const udp = createSocket('udp4');
// What a rule drops on the way out is an error of the socket; it was sent all the same.
udp.on('error', () => {});
const payload = Buffer.alloc(32);
const started = performance.now();

function tick() {
  const total = sent[0] + sent[1];
  const due = Math.min(((performance.now() - started) / 1000) * Number(rate), total + MOST_AT_ONCE);
  for (let next = total; next < due; next++) {
    udp.send(payload, 5000 + (next % 2), host, () => {});
    sent[next % 2]++;
  }
  if (running) setImmediate(tick);
  else setTimeout(end, 100);
}

let stop = () => {};
function end() {
  process.stdout.write(JSON.stringify({ sent, lines }));
  udp.close();
  stop();
}

if (role === 'serve') {
  const server = createServer((socket) => socket.pipe(socket));
  server.listen(PORT, () => process.stdout.write('ready\n'));
  stop = () => process.exit(0);
} else {
  const socket = connect(PORT, host);
  socket.setEncoding('latin1').setNoDelay(true);
  let got = '';
  socket.on('connect', () => {
    process.stdout.write('ready\n');
    socket.write('0\n');
  });
  socket.on('data', (text) => {
    got += text;
    if (!got.endsWith('\n')) return;
    if (got !== `${lines}\n`) throw new Error(`line ${lines} came back as ${JSON.stringify(got)}`);
    got = '';
    lines++;
    if (running) socket.write(`${lines}\n`);
  });
  stop = () => socket.destroy();
}
process.stdin.on('end', () => (running = false)).resume();
tick();
