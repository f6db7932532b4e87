/** Puts a bindings file in force again and again: `NETNS FILE TIMES`. */
import { readFileSync } from 'node:fs';
import { SocketSteering } from '../../../dist/host/sockets/steering.js';
import { parseBindings } from '../../../dist/sklookup/index.js';

const [netns, path, times] = process.argv.slice(2);
const file = parseBindings(readFileSync(path, 'utf8'), path);
const steering = SocketSteering.open(netns);
for (let count = 0; count < Number(times); count++) await steering.apply(file);
steering.close();
