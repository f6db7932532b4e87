import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/registry.ts';
import { sluice } from '../support/cli.ts';

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

describe('completion', () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    it(`prints a script for ${shell} that names every command`, async () => {
      const { code, stdout } = await sluice(['completion', shell]);
      expect(code).toBe(0);
      for (const { name } of COMMANDS) for (const word of name.split(' ')) expect(stdout).toContain(word);
    });
  }
});
