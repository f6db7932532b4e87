/** How long a test waits for what will surely come. Only a failure takes that long: machines may be twenty times slower than one's own. */
export const LONG_MS = 120_000;
