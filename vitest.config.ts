import { defineConfig } from 'vitest/config';

/** Files that are about what a machine has once: pins, locks, programs and links by number, other people's policies. */
const MACHINE_WIDE =
  'test/kernel/{bypass,device,dump,exec,feature,import,link,map,policy,process,program,registrations,restore-noflush,sets,sockets}*.test.ts';

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
    maxWorkers: '100%',
    coverage: { provider: 'v8', include: ['src/**/*.ts'], exclude: ['**/*.test.ts'] },
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['test/kernel/**'],
          // Nothing there keeps anything in its modules; reading them again for each file takes longer than most files.
          isolate: false,
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
          pool: 'forks',
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
