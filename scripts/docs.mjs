/** `npm run docs`: writes the reference pages that are made from code. With --check: fails when they differ. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installPackages, root } from './setup.mjs';

installPackages();
await import('./typescript.mjs');
const { referencePages } = await import('../src/cli/reference.ts');
let stale = 0;
for (const [name, text] of Object.entries(await referencePages())) {
  const path = join(root, 'docs', 'reference', name);
  if (process.argv.includes('--check')) {
    let have = '';
    try {
      have = readFileSync(path, 'utf8');
    } catch {}
    if (have !== text) {
      process.stderr.write(`docs/reference/${name} is not what the code says; run: npm run docs\n`);
      stale++;
    }
  } else {
    writeFileSync(path, text);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
