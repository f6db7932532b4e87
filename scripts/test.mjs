/**
 * `npm test`: sets up, checks style and types, runs every test, and ends with one line
 * `N passed, N failed, N skipped`. Arguments are handed to Vitest.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { build, checkNode, installOracles, installPackages, root } from './setup.mjs';

const problem = checkNode();
if (problem !== undefined) {
  process.stderr.write(`${problem}\n`);
  process.exit(4);
}
installPackages();
installOracles();

// A commit's run repeats; each commit looks at other cases. Without a commit, each run does.
if (process.env.SLUICE_SEED === undefined) {
  const commit = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' });
  const seed =
    commit.status === 0
      ? Number.parseInt(commit.stdout.slice(0, 8), 16)
      : Math.floor(Math.random() * 2 ** 32);
  process.env.SLUICE_SEED = String(seed | 0);
}
process.stdout.write(`generated cases: SLUICE_SEED=${process.env.SLUICE_SEED}\n`);

const node = (script, ...args) =>
  spawnSync(process.execPath, [join(root, 'node_modules', script), ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  }).status ?? 1;

let passed = 0;
let failed = 0;
let skipped = 0;
const count = (name, status) => {
  if (status === 0) passed++;
  else failed++;
  process.stdout.write(`${status === 0 ? 'ok' : 'FAILED'}: ${name}\n`);
};

const firstLines = (messages) =>
  messages
    .join('\n')
    .split('\n')
    .slice(0, 6)
    .map((line) => `  ${line.slice(0, 500)}\n`)
    .join('');

/** The tests that hold the parsers of rules and captures, and the coverage that they must have. */
const PARSER_COVERAGE = [
  ['run', '--project', 'pure', '--reporter=dot'],
  [
    'src/rules',
    'src/wire/capture',
    'test/rules/canonical.test.ts',
    'test/rules/roundtrip.test.ts',
    'test/rules/extension-tests.test.ts',
    'test/rules/option-values.test.ts',
    'test/wire/fuzz.test.ts',
  ],
  ['--coverage.enabled', '--coverage.reporter=text-summary', '--coverage.thresholds.branches=90'],
  [
    '--coverage.include=src/rules/*.ts',
    '--coverage.include=src/rules/text/*.ts',
    '--coverage.include=src/wire/capture/*.ts',
  ],
].flat();

try {
  build();
  count('compile', 0);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  count('compile', 1);
}
if (failed === 0) {
  const whole = process.argv.length === 2;
  if (whole) {
    count('style (biome)', node('@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.'));
    count('types of tests', node('typescript/bin/tsc', '-p', 'test/tsconfig.json'));
  }
  if (whole) count('branch coverage of the parsers', node('vitest/vitest.mjs', ...PARSER_COVERAGE));
  mkdirSync(join(root, 'dist'), { recursive: true });
  const report = join(root, 'dist', 'test-report.json');
  rmSync(report, { force: true });
  const status = node(
    'vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  );
  if (existsSync(report)) {
    const result = JSON.parse(readFileSync(report, 'utf8'));
    passed += result.numPassedTests;
    failed += result.numFailedTests;
    skipped += result.numPendingTests + (result.numTodoTests ?? 0);
    // Once more at the end, where a log that was cut short still has them.
    for (const { assertionResults, message, name, status: ended } of result.testResults) {
      const broken = assertionResults.filter((test) => test.status === 'failed');
      for (const { failureMessages, fullName } of broken)
        process.stdout.write(`FAILED: ${relative(root, name)}: ${fullName}\n${firstLines(failureMessages)}`);
      if (ended === 'failed' && broken.length === 0)
        process.stdout.write(`FAILED: ${relative(root, name)}\n${firstLines([message])}`);
    }
    // A file that fails to load, or an error outside a test, fails the run without a failed test.
    if (status !== 0 && result.numFailedTests === 0) failed++;
  } else {
    failed++;
  }
}
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exitCode = failed === 0 ? 0 : 1;
