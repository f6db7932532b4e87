/**
 * What a look-up costs: nanoseconds that the program adds at 1, 10, 1,000 and 1,000,000 bindings, against an empty
 * sk_lookup program; whether a look-up among a million costs at most twice one among ten; connections a second with steering against plain listeners; and how many, and how many
 * UDP flows, a second really came, and what became of them, while everything was changed under 2,000 a second of each. One run; prints JSON.
 *
 * Run as root: `npm run bench sockets`.
 */
import { measureChanges, measureConnections } from './connections.ts';
import { againstBound, measureLoads, measureRandom, measureRepeated, SteeredNetns } from './lookups.ts';

const name = `slc-${process.pid}-bench`;
const steered = await SteeredNetns.make(name);
try {
  const repeated = await measureRepeated(steered);
  const random = await measureRandom(name, steered);
  console.log(
    JSON.stringify({
      bench: 'sockets',
      version: 1,
      millionToTen: againstBound(random),
      repeated,
      random,
      loads: measureLoads(),
      connectionsPerSecond: await measureConnections(steered),
      underChanges: await measureChanges(steered),
    }),
  );
} finally {
  await steered.close();
}
