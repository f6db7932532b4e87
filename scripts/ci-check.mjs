/**
 * Fails when kernel tests were skipped on a machine that could have run them: root on Linux >= 6.9.
 * Reads the report that scripts/test.mjs leaves; prints each such test.
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join, relative } from 'node:path';
import { root } from './setup.mjs';

const [major = 0, minor = 0] = release().split('.').map(Number);
const able =
  process.platform === 'linux' && process.getuid?.() === 0 && (major > 6 || (major === 6 && minor >= 9));
if (!able) process.exit(0);

const report = JSON.parse(readFileSync(join(root, 'dist', 'test-report.json'), 'utf8'));
const skipped = report.testResults
  .filter((file) => relative(root, file.name).startsWith(join('test', 'kernel')))
  .flatMap((file) =>
    file.assertionResults
      .filter((test) => ['skipped', 'pending', 'todo'].includes(test.status))
      .map((test) => `${relative(root, file.name)}: ${test.fullName}`),
  );
if (skipped.length > 0) {
  process.stdout.write(
    `kernel tests skipped on a machine that can run them:\n${skipped.map((line) => `  ${line}\n`).join('')}`,
  );
  process.exit(1);
}
