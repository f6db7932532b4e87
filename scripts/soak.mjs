/**
 * `npm run soak [path…]`: the long forms of the property, fuzz and differential tests (SLUICE_SOAK=1), whole or for the
 * paths given. Writes what ran and how it ended to docs/soak/DATE.json; a failure's seed is in its message there.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join, relative } from 'node:path';
import { build, installOracles, installPackages, root } from './setup.mjs';

installPackages();
installOracles();
build();
const report = join(root, 'dist', 'soak-report.json');
const { status } = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--testTimeout=7200000',
    '--hookTimeout=600000',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, SLUICE_SOAK: '1' } },
);
const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
const date = new Date().toISOString().slice(0, 10);
const files = testResults.map(({ name, startTime, endTime, assertionResults }) => ({
  file: relative(root, name),
  seconds: Math.round((endTime - startTime) / 1000),
  passed: assertionResults.filter((test) => test.status === 'passed').length,
  skipped: assertionResults.filter((test) => ['pending', 'skipped', 'todo'].includes(test.status)).length,
  failures: assertionResults
    .filter((test) => test.status === 'failed')
    .map(({ fullName, failureMessages }) => ({
      test: fullName,
      message: failureMessages.join('\n').slice(0, 4000),
    })),
}));
mkdirSync(join(root, 'docs', 'soak'), { recursive: true });
writeFileSync(
  join(root, 'docs', 'soak', `${date}.json`),
  `${JSON.stringify({ soak: { version: 1, date, node: process.version, kernel: release(), files } }, null, 2)}\n`,
);
process.exitCode = status ?? 1;
