import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { COMMANDS } from '../../src/cli/registry.ts';
import { sluice } from '../support/cli.ts';

const RULES = fileURLToPath(new URL('../../examples/edge.rules', import.meta.url));

describe('the command line', () => {
  it('prints its version', async () => {
    const { code, stdout, stderr } = await sluice(['--version']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^sluice [0-9]+\.[0-9]+\.[0-9]+\n$/);
  });

  it('lists every command, and tells how to use each', async () => {
    const { code, stdout } = await sluice(['--help']);
    expect(code).toBe(0);
    for (const { name, summary, load } of COMMANDS) {
      expect(stdout).toContain(name);
      const command = await load();
      expect({ name: command.name, summary: command.summary }).toEqual({ name, summary });
      const help = await sluice([...name.split(' '), '--help']);
      expect(help.code).toBe(0);
      expect(help.stdout).toContain(`Usage: sluice ${name}`);
    }
  });

  it('calls no command wrong usage, and helps', async () => {
    expect(await sluice([])).toMatchObject({ code: 2 });
  });

  it('names the nearest command for a mistyped one', async () => {
    const { code, stdout, stderr } = await sluice(['completoin']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('did you mean "completion"?');
  });

  it('tells errors as JSON when asked', async () => {
    const { code, stdout, stderr } = await sluice(['completion', 'tcsh', '--json']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
    const { error } = JSON.parse(stdout) as { error: Record<string, unknown> };
    expect(error).toMatchObject({ code: 'CLI_USAGE' });
    expect(typeof error.hint).toBe('string');
  });

  it('refuses unknown options with exit code 2', async () => {
    const { code, stderr } = await sluice(['completion', 'bash', '--bogus']);
    expect(code).toBe(2);
    expect(stderr).toContain('--bogus');
  });
});

describe('what cannot be read', () => {
  it('is named, with the exit code of what refuses', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-usage-'));
    try {
      for (const words of [
        ['check', folder],
        ['reassemble', folder],
        ['run', '-4', RULES, '--pcap', folder],
      ])
        expect(await sluice(words)).toMatchObject({ code: 4, stderr: `sluice: ${folder}: is a directory\n` });
      for (const words of [
        ['reassemble', RULES],
        ['run', '-4', RULES, '--pcap', RULES],
      ]) {
        const { code, stderr } = await sluice(words);
        expect(code).toBe(1);
        expect(stderr).toContain(`sluice: ${RULES}: the file is no capture that is known (at byte 0)\n`);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('gives the same exit code when nobody reads what is said', async () => {
    const gone = {
      isTty: false,
      columns: undefined,
      write: () =>
        Promise.reject(Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' })),
    };
    const environment = { stdout: gone, stderr: gone, stdin: Readable.from([]), variables: {} };
    const codeOf = (...words: string[]): Promise<number> => main(words, environment);
    expect(await codeOf('check', '--bogus')).toBe(2);
    expect(await codeOf('compile', '-6', RULES)).toBe(1);
    expect(await codeOf('check', '/nowhere')).toBe(4);
    // Nothing was wrong but that nobody read on.
    expect(await codeOf('check', RULES)).toBe(0);
  });

  it('cannot drive the terminal', async () => {
    const { code, stdout } = await sluice(['check', '-4', '-'], {
      stdin: '*filter\n-A INPUT -s \x1b[31mred\x07 -j ACCEPT\nCOMMIT\n',
    });
    expect(code).toBe(1);
    expect(stdout).toContain('-A INPUT -s \u241b[31mred\u2407 -j ACCEPT');
    expect([...stdout].filter((one) => one < ' ' && one !== '\n')).toEqual([]);
  });
});

describe('completion', () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    it(`prints a script for ${shell} that names every command`, async () => {
      const { code, stdout } = await sluice(['completion', shell]);
      expect(code).toBe(0);
      for (const { name } of COMMANDS) for (const word of name.split(' ')) expect(stdout).toContain(word);
    });
  }
});
