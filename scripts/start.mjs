/**
 * `npm start`: sets up and shows the main job on real input. The shipped rules decide the shipped capture in user
 * space; then, as root on Linux, the same rules are enforced by the kernel between two namespaces of our own.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build, checkNode, installOracles, installPackages, root } from './setup.mjs';

const problem = checkNode();
if (problem !== undefined) {
  process.stderr.write(`${problem}\n`);
  process.exit(4);
}
installPackages();
installOracles();
build();

const { status } = spawnSync(process.execPath, [join(root, 'bin', 'sluice.js'), 'demo'], {
  cwd: root,
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
