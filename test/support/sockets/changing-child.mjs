/**
 * A process of its own that changes the socket tables and ends without warning before a given step. A step is whatever others can
 * see: a store into the arena that is not of plain bytes, a call of bpf(2) that changes something, a directory or pin that comes, moves or goes.
 *
 * Input, one line: JSON of { netns, change, words, killAtStep: from 1 }. Output: the step before which it ended.
 */
import fs, { writeSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { createInterface } from 'node:readline';
import { takeProcessSocket } from '../../../dist/host/sockets/process.js';
import { SocketSteering } from '../../../dist/host/sockets/steering.js';
import { driver, useDriver } from '../../../dist/kernel/ffi/index.js';
import { syscallNumber } from '../../../dist/kernel/sys/syscall.js';
import { ArenaMemory, parseBindings, parseBindingWords } from '../../../dist/sklookup/index.js';

const BPF = {
  0: 'create map',
  2: 'update map',
  3: 'delete from map',
  5: 'load program',
  6: 'pin',
  28: 'create link',
  29: 'update link',
  34: 'detach link',
};

const lines = createInterface({ input: process.stdin });
const [line] = await new Promise((resolve) => lines.once('line', (text) => resolve([text])));
lines.close();
const { netns, change, words, killAtStep } = JSON.parse(line);

let steps = 0;
function step(name) {
  steps++;
  if (steps !== killAtStep) return;
  writeSync(1, name);
  process.kill(process.pid, 'SIGKILL');
}
/** Makes a method say its name first. */
function announce(object, name) {
  const original = object[name];
  object[name] = function (...args) {
    step(name);
    return original.apply(this, args);
  };
}
for (const name of ['setU32', 'storeU32', 'publishU32', 'publishU64']) announce(ArenaMemory.prototype, name);
for (const name of ['mkdirSync', 'renameSync', 'rmSync']) announce(fs, name);
syncBuiltinESMExports();
const real = driver();
const bpf = syscallNumber('bpf');
useDriver({
  ...real,
  syscall: (number, ...args) => {
    if (number === bpf && BPF[args[0]] !== undefined) step(BPF[args[0]]);
    return real.syscall(number, ...args);
  },
});

const changes = {
  load: async () => (await SocketSteering.load(netns)).steering.close(),
  unload: () => SocketSteering.unload(netns),
  upgrade: (steering) => steering.upgrade(),
  apply: (steering) => steering.apply(parseBindings(words, 'child')),
  bind: (steering) => steering.bind(parseBindingWords([words], 'child')),
  unbind: (steering) => steering.unbind(parseBindingWords([words], 'child')),
  register: async (steering) => {
    const [label, pid, port] = words.split(' ');
    const address = Uint8Array.of(127, 0, 0, 1);
    const fd = takeProcessSocket(Number(pid), { protocol: 'tcp', address, port: Number(port) });
    await steering.register(fd, { label });
  },
  unregister: (steering) => steering.unregister({ label: words }),
};
if (change === 'load' || change === 'unload') await changes[change]();
else {
  const steering = SocketSteering.open(netns);
  await changes[change](steering);
  steering.close();
}
