/** Guides and README name commands, options, exports and files that there are. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseInvocation } from '../src/cli/parse.ts';
import { COMMANDS } from '../src/cli/registry.ts';

const ROOT = new URL('../', import.meta.url);
const FOLDER = 'docs/guides/';
const pages = ['README.md', ...readdirSync(new URL(FOLDER, ROOT)).map((name) => `${FOLDER}${name}`)];

const read = (page: string): string => readFileSync(new URL(page, ROOT), 'utf8');

/** Lines of the fenced blocks in this language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`\\n\`\`\`${language}\\n(.*?)\\n\`\`\``, 'gs'))].flatMap(([, lines]) =>
    lines!.split('\n'),
  );
}

/** The words of each `sluice` in a line of shell, without quotes. */
function invocations(line: string): string[][] {
  const calls = line.replace(/\s#.*/, '').split(/\s*(?:&&|\|)\s*/);
  return calls.flatMap((call) => {
    const words = (call.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ''));
    const at = words.indexOf('sluice');
    const redirected = words.indexOf('>');
    return at < 0 ? [] : [words.slice(at + 1, redirected < 0 ? undefined : redirected)];
  });
}

describe.each(pages)('%s', (page) => {
  test('has only commands as they are', async () => {
    const calls = blocks(read(page), 'sh').flatMap(invocations);
    for (const words of calls) {
      const named = [2, 1].map((count) => words.slice(0, count).join(' '));
      const entry =
        COMMANDS.find(({ name }) => name === named[0]) ?? COMMANDS.find(({ name }) => name === named[1]);
      expect(entry, words.join(' ')).toBeDefined();
      const command = await entry!.load();
      const rest = words.slice(entry!.name.split(' ').length);
      expect(() => parseInvocation(command, rest), words.join(' ')).not.toThrow();
    }
    expect(calls.length + blocks(read(page), 'ts').length).toBeGreaterThan(0);
  });

  test('imports only what is exported', async () => {
    for (const line of blocks(read(page), 'ts')) {
      const found = /^import \{ (.*) \} from 'sluice\/(\w+)';/.exec(line);
      if (found === null) continue;
      const exported: object = await import(`../src/${found[2]}/index.ts`);
      for (const name of found[1]!.split(', ')) expect(Object.keys(exported), line).toContain(name);
    }
  });

  test('links to files that there are', () => {
    for (const [, target] of read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      expect(existsSync(new URL(target!, new URL(page, ROOT))), target).toBe(true);
  });
});
