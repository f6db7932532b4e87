/**
 * What a look-up costs: nanoseconds that the program adds at 1, 10, 1,000 and 1,000,000 bindings, against an empty
 * sk_lookup program; connections a second with steering against plain listeners; and how many a second really came, and
 * what became of them, while everything was changed under 2,000 a second. One run; prints JSON.
 *
 * Run as root: `npm run bench sockets`.
 */
import { measureChanges, measureConnections } from './connections.ts';
import { measureLoads, measureRandom, measureRepeated, SteeredNetns } from './lookups.ts';

const name = `slc-${process.pid}-bench`;
const steered = await SteeredNetns.make(name);
try {
  console.log(
    JSON.stringify({
      bench: 'sockets',
      repeated: await measureRepeated(steered),
      random: await measureRandom(name, steered),
      loads: measureLoads(),
      connectionsPerSecond: await measureConnections(steered),
      underChanges: await measureChanges(steered),
    }),
  );
} finally {
  await steered.close();
}
