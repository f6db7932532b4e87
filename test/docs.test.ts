import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { referencePages } from '../src/cli/reference.ts';

describe('generated reference pages', () => {
  it('are what the code says (npm run docs)', async () => {
    for (const [name, text] of Object.entries(await referencePages())) {
      expect(readFileSync(new URL(`../docs/reference/${name}`, import.meta.url), 'utf8'), name).toBe(text);
    }
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
