/**
 * Datagrams to ports 5000 and 5001 of a host in turn. Arguments: host, packets a second, how many at least. Starts when a line
 * comes in and ends when no more lines can; prints how many were given to the kernel, which a rule on the way out may have refused.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const MOST_AT_ONCE = 64;
const [host, rate, least] = process.argv.slice(2);
await once(process.stdin, 'data');
let told = false;
process.stdin.once('end', () => {
  told = true;
});
process.stdin.resume();

const udp = createSocket('udp4');
udp.on('error', () => {});
const payload = Buffer.alloc(32);
let sent = 0;
let given = 0;
const started = performance.now();
while (!told || sent < Number(least)) {
  const due = Math.min(((performance.now() - started) / 1000) * Number(rate), sent + MOST_AT_ONCE);
  for (; sent < due; sent++) udp.send(payload, 5000 + (sent % 2), host, () => given++);
  await new Promise((resolve) => setImmediate(resolve));
}
while (given < sent) await new Promise((resolve) => setImmediate(resolve));
udp.close();
process.stdout.write(String(sent));
