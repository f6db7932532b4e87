/** Locks, memory files, other processes' descriptors and memory, seccomp notification of an unmodified program. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { driver } from '../../src/kernel/ffi/index.ts';
import {
  buildNotifyFilter,
  createMemfd,
  lock,
  lockHolder,
  type Notification,
  NotificationListener,
  openPidfd,
  readProcessMemory,
  takeFd,
  tryLock,
  writeProcessMemory,
} from '../../src/kernel/index.ts';
import { syscallNumber } from '../../src/kernel/sys/syscall.ts';
import { describeKernel } from '../support/kernel.ts';

describeKernel('processes', () => {
  test('a lock is held by one, shared by several, and free again when closed', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'slc-'));
    try {
      const path = join(directory, 'lock');
      const held = tryLock(path)!;
      expect(tryLock(path)).toBeUndefined();
      expect(await lock(path, 50)).toBeUndefined();
      expect(lockHolder(path)).toMatch(new RegExp(`^process ${process.pid} \\(.*node`));
      const waiting = lock(path, 5000, 'shared');
      held.close();
      using shared = await waiting;
      using second = tryLock(path, 'shared');
      expect([shared?.closed, second?.closed]).toEqual([false, false]);
      expect(tryLock(path)).toBeUndefined();
      shared?.close();
      second?.close();
      expect(lockHolder(path)).toBeUndefined();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('a memory file holds what it was given', () => {
    const content = new TextEncoder().encode('filter\nnat\n');
    using file = createMemfd('tables', content);
    expect(readFileSync(file.number, 'utf8')).toBe('filter\nnat\n');
  });

  test('memory and descriptors of a process can be taken', () => {
    const bytes = new TextEncoder().encode('some memory of our own');
    const address = driver().addressOf(bytes);
    expect(readProcessMemory(process.pid, address, bytes.length)).toEqual(bytes);
    writeProcessMemory(process.pid, address + 5n, new TextEncoder().encode('MEMORY'));
    expect(new TextDecoder().decode(bytes)).toBe('some MEMORY of our own');
    expect(() => readProcessMemory(process.pid, 1n, 8)).toThrow(/EFAULT/);
    using self = openPidfd(process.pid);
    using file = createMemfd('shared', bytes);
    using twin = takeFd(self, file.number);
    expect(twin.number).not.toBe(file.number);
    expect(readFileSync(`/proc/self/fd/${twin.number}`)).toEqual(Buffer.from(bytes));
    expect(() => openPidfd(0x3fffff)).toThrow(expect.objectContaining({ code: 'PROCESS_GONE' }));
  });
});

const built = new URL('../../dist/kernel/index.js', import.meta.url);

/** The child installs the filter on its only thread, tells the listener's number, and on "go" becomes another program. */
const child = `
import { execve, installNotifyFilter } from ${JSON.stringify(built.href)};
process.on('message', ({ filter, argv }) => {
  if (filter) process.send(installNotifyFilter(Uint8Array.from(filter)).number);
  else execve(argv[0], argv, { LC_ALL: 'C' });
});
`;

const unbuilt = existsSync(built) ? undefined : 'needs the built package: npm run build';

/** A process whose reads of files are told to a listener. */
class Target implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'slc-'));
  readonly process: ChildProcess;
  output = '';
  errors = '';

  constructor() {
    const script = join(this.#directory, 'child.mjs');
    writeFileSync(script, child);
    this.process = fork(script, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] });
    this.process.stdout?.on('data', (data) => {
      this.output += data;
    });
    this.process.stderr?.on('data', (data) => {
      this.errors += data;
    });
  }

  async listen(): Promise<NotificationListener> {
    const O_RDONLY_CLOEXEC = 0o2000000;
    const filter = buildNotifyFilter({
      notified: [{ name: 'openat', arguments: [{ index: 2, values: [0, O_RDONLY_CLOEXEC] }] }],
      refused: [],
    });
    this.process.send({ filter: [...filter] });
    const [number] = (await once(this.process, 'message')) as [number];
    expect(number).toBeGreaterThan(2);
    using pidfd = openPidfd(this.process.pid!);
    return new NotificationListener(takeFd(pidfd, number));
  }

  /** Becomes a program, whose reads of files are answered; gives its exit code. */
  async become(
    argv: readonly string[],
    listener: NotificationListener,
    answer: (path: string, call: Notification) => void | Promise<void>,
  ): Promise<number | null> {
    this.process.send({ argv });
    const exited = once(this.process, 'close');
    for (let turn = 0; turn < 1000 && this.process.exitCode === null; turn++) {
      if (!(await listener.wait(100))) continue;
      if (this.process.exitCode !== null) break;
      const call = listener.receive();
      if (call === undefined) break;
      expect(call.nr).toBe(syscallNumber('openat'));
      const memory = readProcessMemory(call.pid, call.arguments[1]!, 64);
      await answer(new TextDecoder().decode(memory.subarray(0, memory.indexOf(0))), call);
    }
    await exited;
    return this.process.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null) this.process.kill('SIGKILL');
    rmSync(this.#directory, { recursive: true });
  }
}

describeKernel(
  'seccomp notification of a program',
  () => {
    test('an unmodified program’s calls are answered, passed on, refused, or answered with a descriptor', async () => {
      await using target = new Target();
      using listener = await target.listen();
      let stillValid = true;
      const seen: string[] = [];
      const argv = ['/bin/cat', '/slc/answered', '/slc/refused', '/proc/sys/kernel/ostype'];
      const code = await target.become(argv, listener, (path, { id }) => {
        stillValid &&= listener.stillValid(id);
        if (path.startsWith('/slc')) seen.push(path);
        if (path === '/slc/answered') {
          using file = createMemfd('answer', new TextEncoder().encode('from the supervisor\n'));
          expect(listener.answerWithFd(id, file)).toBe(true);
        } else {
          const answer = path === '/slc/refused' ? { errno: 13 } : ('continue' as const);
          expect(listener.answer(id, answer)).toBe(true);
        }
      });
      expect(seen).toEqual(['/slc/answered', '/slc/refused']);
      expect(stillValid).toBe(true);
      expect(listener.stillValid(1n)).toBe(false);
      expect(target.output).toBe('from the supervisor\nLinux\n');
      expect(target.errors).toContain('Permission denied');
      expect(code).toBe(1);
    });

    // Made again, a call that adds to counters would add twice.
    test('a call that was taken is not made again when its process is sent a signal', async () => {
      await using target = new Target();
      using listener = await target.listen();
      const seen: string[] = [];
      const script = 'trap "echo caught" USR1; true < /slc/refused; echo over';
      const code = await target.become(['/bin/sh', '-c', script], listener, async (path, { id, pid }) => {
        if (!path.startsWith('/slc')) {
          listener.answer(id, 'continue');
          return;
        }
        seen.push(path);
        process.kill(pid, 'SIGUSR1');
        await new Promise((resolve) => setTimeout(resolve, 50));
        expect(listener.answer(id, { errno: 13 })).toBe(true);
      });
      expect(seen).toEqual(['/slc/refused']);
      expect(target.errors).toContain('Permission denied');
      expect(target.output).toBe('caught\nover\n');
      expect(code).toBe(0);
    });
  },
  unbuilt,
);

describeKernel('seccomp filters', () => {
  test('the filter hands over exactly the calls that were asked for, and those of other architectures', () => {
    const ALLOW = 0x7fff0000;
    const NOTIFY = 0x7fc00000;
    const ERRNO = 0x00050000;
    const ENOSYS = 38;
    const refused = [{ name: 'unshare', errno: 1 }] as const;
    const names = ['getsockopt', 'setsockopt', 'openat', 'bpf'] as const;
    const value = fc.constantFrom(0, 1, 41, 64, 65, 0xffffffff);
    const condition = fc.record({
      index: fc.integer({ min: 0, max: 5 }),
      values: fc.uniqueArray(value, { minLength: 1, maxLength: 4 }),
    });
    const call = fc.record({
      name: fc.constantFrom(...names),
      arguments: fc.array(condition, { maxLength: 3 }),
    });
    const event = fc.record({
      name: fc.constantFrom(...names, 'read' as const, 'unshare' as const),
      words: fc.array(value, { minLength: 6, maxLength: 6 }),
    });
    fc.assert(
      fc.property(
        fc.array(call, { maxLength: 4 }),
        fc.array(event, { minLength: 1, maxLength: 20 }),
        (calls, events) => {
          const filter = buildNotifyFilter({ notified: calls, refused });
          for (const { name, words } of events) {
            const wanted = calls.some(
              (entry) =>
                entry.name === name &&
                entry.arguments.every(({ index, values }) => values.includes(words[index]!)),
            );
            const data = new DataView(new ArrayBuffer(64));
            data.setUint32(0, syscallNumber(name), true);
            data.setUint32(4, process.arch === 'arm64' ? 0xc00000b7 : 0xc000003e, true);
            for (const [index, word] of words.entries()) data.setUint32(16 + 8 * index, word, true);
            const usual = name === 'unshare' ? ERRNO | 1 : ALLOW;
            expect(runClassic(filter, data)).toBe(wanted ? NOTIFY : usual);
            data.setUint32(0, 0x4000_0000 | syscallNumber(name), true);
            expect(runClassic(filter, data)).toBe(ERRNO | ENOSYS);
            data.setUint32(4, 0x4000_0003, true);
            expect(runClassic(filter, data)).toBe(NOTIFY);
          }
        },
      ),
    );
  });
});

/** Runs classic BPF of the four kinds of instruction that filters are made of. */
function runClassic(filter: Uint8Array, data: DataView): number {
  const view = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  let accumulator = 0;
  for (let at = 0; at * 8 < filter.length; at++) {
    const code = view.getUint16(at * 8, true);
    const k = view.getUint32(at * 8 + 4, true);
    if (code === 0x06) return k;
    if (code === 0x20) accumulator = data.getUint32(k, true);
    else if (code === 0x15) at += view.getUint8(at * 8 + (accumulator === k ? 2 : 3));
    else if (code === 0x35) at += view.getUint8(at * 8 + (accumulator >= k ? 2 : 3));
    else throw new Error(`unknown instruction ${code}`);
  }
  throw new Error('the filter ran past its end');
}
