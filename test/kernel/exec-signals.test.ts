/** Signals that a supervisor is sent are its command's: that decides, and its calls are answered until it has ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { describeKernel } from '../support/kernel.ts';
import { startScript, supervisedWords, supervisionMissing } from '../support/supervised.ts';

const SCRIPT = '/usr/bin/script';
/** Turns of 50 ms after which a script gives up. */
const TURNS = 2000;

/** What a process prints, as it comes. */
class Output {
  text = '';

  constructor(child: ChildProcess) {
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (data) => {
        this.text += data;
      });
  }

  async until(part: string, child: ChildProcess): Promise<void> {
    while (!this.text.includes(part)) {
      if (child.exitCode !== null) throw new Error(`ended without "${part}": ${this.text}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

describeKernel(
  'a supervisor that is sent signals',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-signals-'));
    const save = ['--save', join(folder, 'policy')];
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test('hands them on, and answers what the command does then', async () => {
      const names = ['TERM', 'HUP', 'INT', 'QUIT'] as const;
      const traps = names.map(
        (name) => `trap 'iptables -N ${name} && n=$((n+1)) && echo got ${name}' ${name}`,
      );
      const child = startScript(
        `n=0; i=0; ${traps.join('; ')}; echo ready
         while [ $n -lt ${names.length} ] && [ $i -lt ${TURNS} ]; do i=$((i+1)); sleep 0.05; done
         iptables -S; exit 7`,
        save,
      );
      const output = new Output(child);
      const ended = once(child, 'close');
      await output.until('ready\n', child);
      for (const name of names) {
        child.kill(`SIG${name}`);
        await output.until(`got ${name}\n`, child);
      }
      expect(await ended).toEqual([7, null]);
      for (const name of names) expect(output.text).toContain(`-N ${name}\n`);
    });

    test('ends as the command that they ended', async () => {
      const child = startScript('echo ready; exec sleep 100', save);
      const output = new Output(child);
      const ended = once(child, 'close');
      await output.until('ready\n', child);
      child.kill('SIGTERM');
      expect(await ended).toEqual([128 + 15, null]);
      expect(output.text).toBe('ready\n');
    });

    // The terminal's own interrupt comes to the command once, and not once more from its supervisor.
    test.skipIf(!existsSync(SCRIPT))('leaves those of a terminal to it', async () => {
      const script = `n=0; i=0; trap 'n=$((n+1))' INT; echo ready
        while [ $n -lt 1 ] && [ $i -lt ${TURNS} ]; do i=$((i+1)); sleep 0.05; done
        sleep 0.1; sleep 0.1; iptables -N seen; iptables -S; echo "times $n"`;
      const quoted = [process.execPath, ...supervisedWords(script, save)].map(
        (word) => `'${word.replaceAll("'", `'\\''`)}'`,
      );
      // A shell that waited between script(1) and the supervisor would end of the same key.
      const line = `exec ${quoted.join(' ')}`;
      const child = spawn(SCRIPT, ['-qec', line, '/dev/null'], { stdio: 'pipe' });
      const output = new Output(child);
      const ended = once(child, 'close');
      await output.until('ready', child);
      child.stdin.write('\x03');
      expect(await ended).toEqual([0, null]);
      expect(output.text).toContain('-N seen');
      expect(output.text).toContain('times 1');
    });
  },
  supervisionMissing,
);
