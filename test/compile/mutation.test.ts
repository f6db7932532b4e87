/**
 * Mistakes in what writes programs show: in a verdict, a mark, a counter, a record of the log or the bytes of an answer. Each
 * place of the emitters' code makes its mistake once (support/mistakes.ts). Those that stay hidden are listed with their
 * reasons (support/mistake-areas.ts); any other that does fails the test.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MISTAKE_AREAS } from '../support/mistake-areas.ts';
import { seedMistakes, unexplained } from '../support/mistakes.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const TIMEOUT_MS = SOAK ? 3_600_000 : 240_000;
const seed = fc.readConfigureGlobal().seed ?? 0;
/** Calls of the assembler, and of what writes tables. */
const WRITES = /\basm\s*\.(?!label|note)|\bimage\s*\.(u8|u32|pointer|cell)\(/;
/** Some mistakes of one area, by the seed, and none that are known to stay hidden; all of them with SLUICE_SOAK=1. */
const areas = SOAK ? MISTAKE_AREAS : [MISTAKE_AREAS[fc.hash(`${seed}`) % MISTAKE_AREAS.length]!];

test('every file that writes programs or tables is in some area', () => {
  const compile = join(import.meta.dirname, '../../src/compile');
  const writers = readdirSync(compile, { recursive: true, encoding: 'utf8' }).filter(
    (file) => /(?<!\.test)\.ts$/.test(file) && WRITES.test(readFileSync(join(compile, file), 'utf8')),
  );
  expect(writers.length).toBeGreaterThan(40);
  const seeded = (file: string): boolean => MISTAKE_AREAS.some(({ emitters }) => emitters.test(file));
  expect(writers.filter((file) => !seeded(file))).toEqual([]);
});

test.each(areas)(
  'mistakes show: $name',
  (area) => {
    const { name, emitters, share } = area;
    const known = [...Object.keys(area.equivalent), ...Object.keys(area.unseen)];
    const chosen = (mistake: string): boolean =>
      SOAK || (!known.includes(mistake) && fc.hash(`${seed} ${mistake}`) % share === 0);
    const report = seedMistakes(emitters, area.subjects(), chosen);
    console.log(`${name}: ${report.sites - report.survivors.length} of ${report.sites} mistakes caught`);
    expect(unexplained(report, known, chosen)).toEqual({ missed: [], stale: [] });
  },
  TIMEOUT_MS,
);
