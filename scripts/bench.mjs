/**
 * Runs benchmarks: `npm run bench [name]… [-- options]`, each a folder of `bench/` with a `<name>.ts` in it; all without
 * names. Options are the benchmark's own.
 * Each prints JSON on standard output. TypeScript is stripped on the way in, so that nothing need be built first.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import './typescript.mjs';

const folder = fileURLToPath(new URL('../bench/', import.meta.url));
const known = readdirSync(folder).filter((name) => existsSync(`${folder}${name}/${name}.ts`));
const options = process.argv.findIndex((argument) => argument.startsWith('--'));
const wanted = process.argv.slice(2, options < 0 ? undefined : options);
const missing = wanted.filter((name) => !known.includes(name));
if (missing.length > 0) {
  console.error(`no benchmark ${missing.join(', ')}; there are: ${known.join(', ')}`);
  process.exitCode = 2;
} else {
  for (const name of wanted.length > 0 ? wanted : known)
    await import(pathToFileURL(`${folder}${name}/${name}.ts`).href);
}
