import { defineConfig } from 'vitest/config';

/** Files that are about what a machine has once: pins, locks, programs and links by number, other people's policies. */
const MACHINE_WIDE =
  'test/kernel/{bypass,device,dump,exec,feature,import,link,map,policy,process,program,registrations,restore-noflush,sets,sockets}*.test.ts';

/**
 * Three projects: `pure` runs anywhere; `kernel` makes namespaces and loads programs of its own; `machine` has the machine to
 * itself, one file at a time.
 */
export default defineConfig({
  test: {
    testTimeout: 240_000,
    hookTimeout: 240_000,
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
          testTimeout: 300_000,
          hookTimeout: 300_000,
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
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
