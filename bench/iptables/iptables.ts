/**
 * The unmodified iptables under Sluice ÷ against the kernel: one `-A`, a restore of 1,000 rules, 200 single `-A` from one
 * script, and starting programs that call no table option (what the supervision of opens costs others). Times are taken
 * inside the running session, so that its own start does not count.
 *
 * Interleaved rounds; the 10th percentile of each counts. Prints JSON. Needs root, iptables-legacy and the built package.
 * Run: `npm run bench iptables`.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROUNDS = 5;
const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const MEASURES = ['append', 'restore1000', 'append200', 'start100'] as const;
type Measure = (typeof MEASURES)[number];

const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
const netns = `slc-${process.pid}-bench`;
const policy = `slc-${process.pid}-bench`;
const rules = Array.from(
  { length: 1000 },
  (_, index) =>
    `-A INPUT -s 10.${index >> 8}.${index & 255}.0/24 -p tcp -m tcp --dport ${index + 1} -j ACCEPT`,
);
writeFileSync(join(folder, 'rules'), `*filter\n${rules.join('\n')}\nCOMMIT\n`);

/** Prints one line of nanoseconds for each measure. */
const script = `
took() { echo $(( $(date +%s%N) - start )); }
iptables-legacy -F
start=$(date +%s%N); iptables-legacy -A INPUT -s 192.0.2.1 -j ACCEPT; took
start=$(date +%s%N); iptables-legacy-restore ${join(folder, 'rules')}; took
iptables-legacy -F
start=$(date +%s%N); i=0; while [ $i -lt 200 ]; do i=$((i+1)); iptables-legacy -A INPUT -p tcp --dport $i -j ACCEPT; done; took
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

/** Milliseconds at the 10th percentile. */
function low(context: Context, measure: Measure): number {
  const sorted = [...times.get(`${context} ${measure}`)!].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 10)]! / 1e6;
}

const report = Object.fromEntries(
  MEASURES.map((measure) => {
    const kernelMs = low('kernel', measure);
    const ratio = (context: Context): number => Number((low(context, measure) / kernelMs).toFixed(2));
    return [
      measure,
      {
        kernelMs: Number(kernelMs.toFixed(2)),
        netstackMs: Number(low('netstack', measure).toFixed(2)),
        liveMs: Number(low('live', measure).toFixed(2)),
        netstackRatio: ratio('netstack'),
        liveRatio: ratio('live'),
      },
    ];
  }),
);
console.log(JSON.stringify({ bench: 'iptables', rounds: ROUNDS, ...report }));
