/** A plain TCP server in a process of its own: `NAME ADDRESS PORT`. Says its name to everybody; ends gracefully on SIGTERM. */
import { createServer } from 'node:net';

const [name, address, port] = process.argv.slice(2);
const server = createServer((socket) => {
  socket.on('error', () => {});
  socket.end(name);
});
server.listen({ host: address, port: Number(port), backlog: 4096 }, () =>
  process.stdout.write('listening\n'),
);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
