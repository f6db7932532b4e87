/**
 * A process of its own that runs one iptables command on a live policy; before a given step of the calls that change tables
 * it ends without warning, or ends the command so and goes on. It runs the compiled package, which starts in a fraction of
 * the time that the sources take, and loads it before it is told what to do.
 *
 * Input, one line: JSON of { netns, policy, lockFile, argv, victim: "supervisor" or "command", killAtStep: from 1 }.
 * Output: the step before which the victim ended.
 */
import { readdirSync, readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { closeTargets, openTargets } from '../../dist/host/policy/index.js';
import {
  findLegacyProgram,
  LiveEngine,
  Shims,
  supervise,
  TableStore,
} from '../../dist/host/supervisor/index.js';

closeTargets(openTargets([], []));
const lines = createInterface({ input: process.stdin });
const [line] = await new Promise((resolve) => lines.once('line', (text) => resolve([text])));
lines.close();
const { netns, policy, lockFile, argv, victim, killAtStep } = JSON.parse(line);

/** The command: this process starts no other. */
function commandPid() {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === process.pid) return Number(entry);
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error('there is no command');
}

let steps = 0;
function step(name) {
  steps++;
  if (steps !== killAtStep) return;
  writeSync(1, name);
  process.kill(victim === 'supervisor' ? process.pid : commandPid(), 'SIGKILL');
}

const targets = openTargets([netns], []);
const [{ cookie: netnsCookie }] = targets;
closeTargets(targets);
const engine = new LiveEngine({ policy, hooks: ['netfilter'], devices: [], netns, netnsCookie, step });
const shims = new Shims(findLegacyProgram(process.env));
try {
  const code = await supervise({
    argv,
    variables: process.env,
    store: new TableStore(engine),
    shims,
    netns: { name: netns },
    allowNetlink: false,
    lockFile,
    say: (said) => process.stderr.write(`${said}\n`),
    step,
  });
  if (victim === 'command' && steps >= killAtStep) process.kill(process.pid, 'SIGKILL');
  process.exitCode = code;
} finally {
  shims.remove();
}
