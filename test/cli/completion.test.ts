/** Completion as the shells do it: the scripts are sourced, and asked what they offer behind the beginning of a line. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HOOK_NAMES } from '../../src/compile/index.ts';
import { sluice } from '../support/cli.ts';
import { LONG_MS } from '../support/patience.ts';

/** What has to be offered, and all of it that begins so. */
const LINES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['sluice appl', ['apply']],
  ['sluice socket ex', ['explain']],
  ['sluice set de', ['del', 'destroy']],
  ['sluice apply --hook ', HOOK_NAMES],
  ['sluice apply --conf', ['--confirm']],
  ['sluice socket apply --dry', ['--dry-run']],
];

/** What a shell prints that is started with these words, for the path of the completion script. */
async function printed(shell: string, words: (path: string) => readonly string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'slc-completion-'));
  try {
    const path = join(folder, `sluice.${shell}`);
    writeFileSync(path, (await sluice(['completion', shell])).stdout);
    const options = { encoding: 'utf8', timeout: LONG_MS, env: { ...process.env, HOME: folder } } as const;
    const { stdout, stderr, error } = spawnSync(shell, words(path), options);
    expect(error).toBeUndefined();
    expect(stderr).toBe('');
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const missing = (shell: string): boolean => spawnSync(shell, ['--version']).status !== 0;

describe.skipIf(missing('bash'))('completion in bash', () => {
  const script = `source "$1"
    read -ra COMP_WORDS <<< "$2"; [[ $2 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _sluice; printf '%s\\n' "\${COMPREPLY[@]}"`;
  it.each(LINES)('%s', async (line, words) => {
    const found = await printed('bash', (path) => ['-c', script, 'bash', path, line]);
    expect(found.trim().split('\n').sort()).toEqual([...words].sort());
  });
});

describe.skipIf(missing('fish'))('completion in fish', () => {
  const script = 'source $argv[1]; complete -C $argv[2]';
  it.each(LINES)('%s', async (line, words) => {
    const found = await printed('fish', (path) => ['-c', script, path, line]);
    const names = found
      .trim()
      .split('\n')
      .map((each) => each.split('\t')[0]);
    expect(names.sort()).toEqual([...words].sort());
  });
});

describe.skipIf(missing('zsh'))('completion in zsh', () => {
  // Completion runs in the line editor only: a shell in a pseudo terminal lists what there is, until all has come.
  const script = `zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z "autoload -Uz compinit; compinit -u -D; PS1=; bindkey '^I' list-choices; source $1; echo REA''DY"
    zpty -r z said '*READY*'
    zpty -n -w z "$2"$'\\t'
    for word in \${=3}; do [[ $said == *READY*$word* ]] || { zpty -r z more "*$word*"; said+=$more; }; done
    zpty -d z; print -r -- OFFERED`;
  it.each(LINES)('%s', async (line, words) => {
    const said = await printed('zsh', (path) => ['-f', '-c', script, 'zsh', path, line, words.join(' ')]);
    expect(said).toContain('OFFERED');
  });
});
