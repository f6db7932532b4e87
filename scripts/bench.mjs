/**
 * Runs benchmarks: `npm run bench [name]…`, each a folder of `bench/` with a `<name>.ts` in it; all without names.
 * Each prints JSON on standard output. TypeScript is stripped on the way in, so that nothing need be built first.
 */
import { existsSync, readdirSync } from 'node:fs';
import { register } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

register(
  `data:text/javascript,${encodeURIComponent(`
    import { readFileSync } from 'node:fs';
    import { fileURLToPath } from 'node:url';
    import ts from ${JSON.stringify(import.meta.resolve('typescript'))};
    const compilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true };
    export async function load(url, context, next) {
      if (!url.endsWith('.ts')) return next(url, context);
      const source = ts.transpileModule(readFileSync(fileURLToPath(url), 'utf8'), { compilerOptions }).outputText;
      return { format: 'module', source, shortCircuit: true };
    }
  `)}`,
  import.meta.url,
);

const folder = fileURLToPath(new URL('../bench/', import.meta.url));
const known = readdirSync(folder).filter((name) => existsSync(`${folder}${name}/${name}.ts`));
const wanted = process.argv.slice(2);
const missing = wanted.filter((name) => !known.includes(name));
if (missing.length > 0) {
  console.error(`no benchmark ${missing.join(', ')}; there are: ${known.join(', ')}`);
  process.exitCode = 2;
} else {
  for (const name of wanted.length > 0 ? wanted : known)
    await import(pathToFileURL(`${folder}${name}/${name}.ts`).href);
}
