import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { generatedPages } from '../src/cli/reference.ts';

describe('generated pages', () => {
  it('are what the code says (npm run docs)', async () => {
    for (const [name, text] of Object.entries(await generatedPages())) {
      expect(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'), name).toBe(text);
    }
  });

  it('leave no manual page of a command that is gone', async () => {
    const made = Object.keys(await generatedPages()).filter((path) => path.startsWith('packaging/man/'));
    const have = readdirSync(new URL('../packaging/man/', import.meta.url));
    expect(have.map((name) => `packaging/man/${name}`).sort()).toEqual(made.sort());
  });

  it('are manual pages of plain man(7), installed by npm', async () => {
    const known = /^\.(TH|SH|SS|TP|B|BR|PP)( |$)/;
    for (const [path, text] of Object.entries(await generatedPages())) {
      if (!path.startsWith('packaging/man/')) continue;
      for (const line of text.split('\n')) {
        if (line.startsWith('.\\"')) continue;
        if (line.startsWith('.')) expect(line, path).toMatch(known);
        // Nothing is an escape but a hyphen, a backslash, a quote and the mark of a line that is no request.
        expect(line.replaceAll(/\\(-|e|&|\(dq)/g, ''), path).not.toContain('\\');
      }
      expect(text).toMatch(/^\.SH NAME\n\S+ \\- \S/m);
    }
    const about = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      directories: { man: string };
      files: readonly string[];
    };
    expect(about.directories.man).toBe('packaging/man');
    expect(about.files).toContain('packaging/man');
  });
});

describe('README', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

  it('stays under 200 lines', () => {
    expect(readme.split('\n').length).toBeLessThan(200);
  });

  it('links only to files that exist', () => {
    for (const [, target] of readme.matchAll(/\]\(([^)#:]+)\)/g)) {
      expect(() => readFileSync(new URL(`../${target}`, import.meta.url)), target).not.toThrow();
    }
  });
});
