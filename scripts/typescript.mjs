/** Lets Node import the TypeScript sources directly: types are stripped on the way in, nothing need be built. */
import { register } from 'node:module';

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
