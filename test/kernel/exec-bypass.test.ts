/**
 * No way around the supervisor: programs without a library make the calls that a filter could overlook. A program that is
 * static gets the policy's tables; calls of other ABIs, and rings that make calls on their own, are refused.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inScratchNetns } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import {
  compat,
  DATA_ADDRESS,
  exitWithByte,
  exitWithErrno,
  native,
  staticProgram,
} from '../support/static-program.ts';
import { superviseScript, supervisionMissing } from '../support/supervised.ts';

const EPERM = 1;
const ENOSYS = 38;
const X32 = 0x4000_0000;
const Nr = { read: 0, write: 1, open: 2, socket: 41, getsockopt: 55, io_uring_setup: 425 } as const;
const COMPAT_GETSOCKOPT = 365;
const COMPAT_SOCKETCALL = 102;
const SYS_GETSOCKOPT = 15;
const GET_INFO = 64;

const notHere = process.arch === 'x64' ? supervisionMissing : 'the programs are for x86_64';

describeKernel(
  'ways around the supervisor',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-bypass-'));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    function program(name: string, code: readonly number[], data?: Uint8Array): string {
      const path = join(folder, name);
      writeFileSync(path, staticProgram(code, data), { mode: 0o755 });
      return path;
    }

    /** struct ipt_getinfo for the table filter at 0, its length at 96. */
    function infoRequest(): Uint8Array {
      const data = new Uint8Array(100);
      data.set(new TextEncoder().encode('filter'));
      data[96] = 84;
      return data;
    }

    const askInfo = [
      ...native(Nr.socket, 2, 3, 255),
      ...native(Nr.getsockopt, 'result', 0, GET_INFO, DATA_ADDRESS, DATA_ADDRESS + 96),
    ];

    test('a static program is answered like any other', () => {
      const entries = program('info', [...askInfo, ...exitWithByte(76)], infoRequest());
      const run = superviseScript(`${entries}; echo $?; iptables -A INPUT; ${entries}; echo $?`, [
        '--save',
        join(folder, 'saved'),
      ]);
      expect(run.stdout).toBe('4\n5\n');
      // The table of the kernel, to which the same program speaks elsewhere, has no rule.
      expect(inScratchNetns(`${entries}; echo $?`).stdout).toBe('4\n');
    });

    test('open(2) of the names of tables gives those of the policy', () => {
      const path = '/proc/net/ip_tables_names';
      const data = new Uint8Array(256);
      data.set(new TextEncoder().encode(`${path}\0`), 128);
      const names = program(
        'names',
        [
          ...native(Nr.open, DATA_ADDRESS + 128, 0, 0),
          ...native(Nr.read, 'result', DATA_ADDRESS, 100),
          ...native(Nr.write, 1, DATA_ADDRESS, 100),
          ...exitWithByte(0),
        ],
        data,
      );
      const ways = ['', 'self/', 'thread-self/'].map((way) => `cat /proc/${way}net/ip_tables_names`);
      const run = superviseScript(
        `iptables -t raw -L >/dev/null; iptables -L >/dev/null; ${names}; ${ways.join('; ')}`,
        ['--save', join(folder, 'saved')],
      );
      expect(run.stdout.replaceAll('\0', '')).toBe('filter\nraw\n'.repeat(4));
    });

    test('calls of other ABIs, and rings, are refused; 32-bit ones in words', () => {
      const calls: readonly (readonly [code: readonly number[], errno: number])[] = [
        [compat(COMPAT_GETSOCKOPT, 3, 0, GET_INFO, DATA_ADDRESS, DATA_ADDRESS + 96), ENOSYS],
        [compat(COMPAT_SOCKETCALL, SYS_GETSOCKOPT, DATA_ADDRESS), ENOSYS],
        [native(X32 | 542, 3, 0, GET_INFO, DATA_ADDRESS, DATA_ADDRESS + 96), ENOSYS],
        [native(X32 | Nr.getsockopt, 3, 0, GET_INFO), ENOSYS],
        [native(Nr.io_uring_setup, 1, DATA_ADDRESS), EPERM],
      ];
      const programs = calls.map(([code], index) =>
        program(`refused${index}`, [...code, ...exitWithErrno], infoRequest()),
      );
      const run = superviseScript(programs.map((path) => `${path}; echo $?`).join('\n'));
      expect(run.stdout).toBe(calls.map(([, errno]) => `${errno}\n`).join(''));
      expect(run.said.filter((line) => line.includes('32-bit'))).toHaveLength(2);
    });
  },
  notHere,
);
