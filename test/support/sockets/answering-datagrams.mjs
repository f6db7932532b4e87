/** A plain UDP server in a process of its own: `NAME ADDRESS PORT`. Answers each datagram with its name and what was sent. */
import { createSocket } from 'node:dgram';

const [name, address, port] = process.argv.slice(2);
const server = createSocket('udp6');
server.on('message', (message, { address: from, port: fromPort }) =>
  server.send(`${name} ${message}`, fromPort, from),
);
server.bind({ address, port: Number(port) }, () => process.stdout.write('listening\n'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
