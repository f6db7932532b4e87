/** Requests with fields changed at random: refused with an errno or taken, never a crash, never more read than was given. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeReplaceHeader, decodeTable, encodeTable, REPLACE_BYTES } from '../../src/rules/index.ts';
import {
  fieldsOf,
  mutate,
  mutations,
  replaceRequest,
  SAMPLES,
  tableOf,
} from '../support/generate/table-requests.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 300_000 : 1500;

describe.each(['ipv4', 'ipv6'] as const)('changed %s requests', (family) => {
  const { name, encoded } = tableOf(SAMPLES[family], family);
  const request = replaceRequest(name, encoded, encoded.entryCount);
  const fields = fieldsOf(request, family);
  const everywhere = Array.from({ length: request.length - 4 }, (_, offset) => offset);

  test.each([
    ['fields', fields],
    ['bytes', everywhere],
  ])('%s', (_, places) => {
    let taken = 0;
    fc.assert(
      fc.property(mutations, (changes) => {
        const changed = mutate(request, places, changes);
        try {
          const header = decodeReplaceHeader(changed, changed.length);
          const entries = changed.subarray(REPLACE_BYTES, REPLACE_BYTES + header.size);
          const decoded = decodeTable(entries, header, family);
          taken++;
          // What was taken is written again as rules that read the same.
          const again = encodeTable(decoded.table, family);
          const request2 = { table: name, entryCount: again.entryCount, ...again.shape };
          expect(Buffer.compare(decodeTable(again.blob, request2, family).blob, again.blob)).toBe(0);
        } catch (error) {
          expect(error).toMatchObject({ code: 'RULES_ABI_REFUSED', errno: expect.any(Number) });
        }
      }),
      { numRuns: RUNS },
    );
    expect(taken).toBeGreaterThan(0);
  });
});
