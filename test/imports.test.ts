import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const src = join(root, 'src');

/** The table of docs/ARCHITECTURE.md: which folder may import which. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  net: [],
  isa: [],
  wire: ['net'],
  btf: ['isa'],
  ir: ['net'],
  rules: ['net', 'wire', 'ir'],
  compile: ['isa', 'net', 'ir', 'rules'],
  sklookup: ['isa', 'net'],
  vm: ['isa', 'btf'],
  netstack: ['net', 'wire', 'isa', 'vm'],
  kernel: ['isa', 'btf'],
  host: ['net', 'isa', 'wire', 'btf', 'ir', 'rules', 'compile', 'sklookup', 'vm', 'netstack', 'kernel'],
  cli: [
    'host',
    'net',
    'isa',
    'wire',
    'btf',
    'ir',
    'rules',
    'compile',
    'sklookup',
    'vm',
    'netstack',
    'kernel',
  ],
};
const HOST_FOLDERS = new Set(['kernel', 'host', 'cli']);
const PACKAGES: Readonly<Record<string, readonly string[]>> = { kernel: ['koffi'], cli: ['commander'] };

interface Import {
  readonly file: string;
  readonly folder: string;
  readonly target: string;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8');
  const folder = relative(src, file).split(sep)[0]!;
  const pattern = /(?:\bfrom\s+|\bimport\s*\(?\s*|\brequire\s*\(\s*)'([^'\n]+)'/g;
  return [...text.matchAll(pattern)].map((match) => ({
    file: relative(root, file),
    folder,
    target: match[1]!,
  }));
}

const imports = sourceFiles(src).flatMap(importsOf);

describe('direction of dependency', () => {
  it('has a rule for every folder of src', () => {
    expect(readdirSync(src).sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  it('lets each folder import only the folders below it, through their index', () => {
    const wrong = imports.filter(({ file, folder, target }) => {
      if (!target.startsWith('.')) return false;
      const path = relative(src, resolve(root, dirname(file), target)).split(sep);
      if (path[0] === folder) return false;
      return !MAY_IMPORT[folder]!.includes(path[0]!) || path.length !== 2 || path[1] !== 'index.ts';
    });
    expect(wrong).toEqual([]);
  });

  it('keeps Node and packages out of the pure folders', () => {
    const wrong = imports.filter(({ folder, target }) => {
      if (target.startsWith('.')) return false;
      if (target.startsWith('node:')) return !HOST_FOLDERS.has(folder);
      return !(PACKAGES[folder] ?? []).includes(target);
    });
    expect(wrong).toEqual([]);
  });

  it('agrees with the tsconfig references', () => {
    for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
      const config = JSON.parse(readFileSync(join(src, folder, 'tsconfig.json'), 'utf8')) as {
        compilerOptions: { types?: string[] };
        references: { path: string }[];
      };
      expect(config.references.map(({ path }) => path.slice(3)).sort(), folder).toEqual([...allowed].sort());
      expect(config.compilerOptions.types ?? [], folder).toEqual(HOST_FOLDERS.has(folder) ? ['node'] : []);
    }
  });

  it('keeps every file under 600 lines, generated tables aside', () => {
    const long = sourceFiles(src)
      .filter((file) => !file.endsWith('.generated.ts'))
      .map((file) => [relative(root, file), readFileSync(file, 'utf8').split('\n').length] as const)
      .filter(([, lines]) => lines > 600);
    expect(long).toEqual([]);
  });
});
