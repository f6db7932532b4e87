/**
 * The unmodified iptables under Sluice ÷ against the kernel: one `-A` to an empty table, to 1,000 rules and to 10,000;
 * restores of 1,000 and 10,000 rules; 1,000 single `-A` from one script; and starting programs that call no table option
 * (what the supervision of opens costs others). Times are taken inside the running session, so that its own start does
 * not count.
 *
 * Interleaved rounds; the least of each counts, as a rival's disturbance only ever adds. Prints JSON and writes
 * docs/performance/iptables.{json,md}. Needs root, iptables-legacy and the built package. Run: `npm run bench iptables`.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CallTimes, page } from './report.ts';

const ROUNDS = 3;
const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const MEASURES = [
  'one -A to an empty table',
  'iptables-restore of 1,000 rules',
  'one -A to 1,000 rules',
  'iptables-restore of 10,000 rules',
  'one -A to 10,000 rules',
  '1,000 single -A from one script',
  '100 other programs started',
] as const;
type Measure = (typeof MEASURES)[number];

const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
const netns = `slc-${process.pid}-bench`;
const policy = `slc-${process.pid}-bench`;
for (const count of [1000, 10_000]) {
  const rules = Array.from(
    { length: count },
    (_, index) =>
      `-A INPUT -s 10.${index >> 8}.${index & 255}.0/24 -p tcp -m tcp --dport ${index + 1} -j ACCEPT`,
  );
  writeFileSync(join(folder, `rules${count}`), `*filter\n${rules.join('\n')}\nCOMMIT\n`);
}

/** Prints one line of nanoseconds for each measure. */
const script = `
took() { echo $(( $(date +%s%N) - start )); }
append() { start=$(date +%s%N); iptables-legacy -A INPUT -s 192.0.2.1 -j ACCEPT; took; }
restore() { start=$(date +%s%N); iptables-legacy-restore ${folder}/rules$1; took; }
iptables-legacy -F
append
restore 1000; append
restore 10000; append
iptables-legacy -F
start=$(date +%s%N); i=0; while [ $i -lt 1000 ]; do i=$((i+1)); iptables-legacy -A INPUT -p tcp --dport $i -j ACCEPT; done; took
start=$(date +%s%N); i=0; while [ $i -lt 100 ]; do i=$((i+1)); /bin/true; done; took
`;
writeFileSync(join(folder, 'script'), script);

const contexts = {
  kernel: ['unshare', '--net', 'sh', join(folder, 'script')],
  netstack: [
    process.execPath,
    PROGRAM,
    'exec',
    '--engine',
    'netstack',
    '--save',
    join(folder, 'saved'),
    '--',
    'sh',
    join(folder, 'script'),
  ],
  live: [
    process.execPath,
    PROGRAM,
    'exec',
    '--netns',
    netns,
    '--policy',
    policy,
    '--',
    'sh',
    join(folder, 'script'),
  ],
} as const;
type Context = keyof typeof contexts;

function run(words: readonly string[]): string {
  const done = spawnSync(words[0]!, words.slice(1), {
    encoding: 'utf8',
    env: { ...process.env, XTABLES_LOCKFILE: join(folder, 'lock') },
    timeout: 600_000,
  });
  if (done.error !== undefined) throw done.error;
  if (done.status !== 0) throw new Error(`${words.join(' ')}: exit ${done.status}: ${done.stderr}`);
  return done.stdout;
}

const times = new Map<string, number[]>();
run(['ip', 'netns', 'add', netns]);
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const context of Object.keys(contexts) as Context[]) {
      const lines = run(contexts[context]).trim().split('\n').map(Number);
      for (const [index, measure] of MEASURES.entries()) {
        const key = `${context} ${measure}`;
        times.set(key, [...(times.get(key) ?? []), lines[index]!]);
      }
    }
  }
} finally {
  spawnSync(process.execPath, [PROGRAM, 'remove', '--policy', policy]);
  spawnSync('ip', ['netns', 'del', netns]);
  rmSync(folder, { recursive: true, force: true });
}

/** Milliseconds of the fastest round. */
function least(context: Context, measure: Measure): number {
  return Number((Math.min(...times.get(`${context} ${measure}`)!) / 1e6).toFixed(2));
}

const results = MEASURES.map(
  (measure): CallTimes => ({
    measure,
    kernelMs: least('kernel', measure),
    netstackMs: least('netstack', measure),
    liveMs: least('live', measure),
  }),
);
const result = `${JSON.stringify({ benchmark: 'iptables', node: process.version, rounds: ROUNDS, results }, undefined, 2)}\n`;
const docs = new URL('../../docs/performance/', import.meta.url);
mkdirSync(docs, { recursive: true });
writeFileSync(new URL('iptables.json', docs), result);
writeFileSync(new URL('iptables.md', docs), page(results));
process.stdout.write(result);
