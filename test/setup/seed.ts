/**
 * The seed of all generated cases. SLUICE_SEED names it (a whole number of 32 bits); without it each run takes a new one.
 * `npm test` derives it from the commit, so that a commit's run repeats and each commit looks at other cases
 * (docs/decisions/0015-seeds.md).
 */
import fc from 'fast-check';

const given = process.env.SLUICE_SEED;
if (given !== undefined) {
  const seed = Number(given);
  if (given === '' || !Number.isInteger(seed))
    throw new Error(`SLUICE_SEED is not a whole number: "${given}"`);
  fc.configureGlobal({ seed: seed | 0 });
}
