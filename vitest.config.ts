import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * Files that are about what a machine has once: which policies there are and which are looked after, what is left when a process is
 * killed, how many connections a second are served. What the others make has names of their own.
 */
const MACHINE_WIDE =
  'test/kernel/{exec,exec-crash,policy-{apply,boot,cli,crash,devices,doctor,environment,hooks,live},process,registrations,sockets-{acceptance,cli,crash,live,register},surroundings-live}.test.ts';

/** A bound against hanging: what takes seconds on one's own machine may take many minutes on a crowded one. */
const LONGEST_TEST_MS = process.env.SLUICE_SOAK === '1' ? 3_600_000 : 900_000;

/**
 * Three projects: `pure` runs anywhere; `kernel` makes namespaces and loads programs of its own; `machine` has the machine to
 * itself, one file at a time.
 */
export default defineConfig({
  test: {
    testTimeout: LONGEST_TEST_MS,
    hookTimeout: LONGEST_TEST_MS,
    setupFiles: ['test/setup/seed.ts'],
    // Many wait for packets that do not come, for processes, for a lock.
    maxWorkers: availableParallelism() + 1,
    coverage: { provider: 'v8', include: ['src/**/*.ts'], exclude: ['**/*.test.ts'] },
    // Modules keep nothing of a test; reading them again for each file takes longer than most files.
    isolate: false,
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['test/kernel/**'],
        },
      },
      {
        extends: true,
        test: {
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          exclude: [MACHINE_WIDE],
          pool: 'forks',
        },
      },
      {
        extends: true,
        test: {
          name: 'machine',
          include: [MACHINE_WIDE],
          isolate: true,
          pool: 'forks',
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
