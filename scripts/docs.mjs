/** `npm run docs`: writes the reference and manual pages that are made from code. With --check: fails when they differ. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { installPackages, root } from './setup.mjs';

installPackages();
await import('./typescript.mjs');
const { generatedPages } = await import('../src/cli/reference.ts');
let stale = 0;
for (const [name, text] of Object.entries(await generatedPages())) {
  const path = join(root, name);
  if (process.argv.includes('--check')) {
    let have = '';
    try {
      have = readFileSync(path, 'utf8');
    } catch {}
    if (have !== text) {
      process.stderr.write(`${name} is not what the code says; run: npm run docs\n`);
      stale++;
    }
  } else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
