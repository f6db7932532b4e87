/** Requests with fields changed at random: refused with an errno or taken, never a crash, never more read than was given. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DecodedTable,
  decodeReplaceHeader,
  decodeTable,
  encodeTable,
  printTable,
  REPLACE_BYTES,
} from '../../src/rules/index.ts';
import {
  fieldsOf,
  mutate,
  mutations,
  replaceRequest,
  SAMPLES,
  tableOf,
} from '../support/generate/table-requests.ts';
import { randomRule } from '../support/random-rules.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 300_000 : 1500;

/** All that a table is, but for the spans of its rules. */
function contentOf({ table, blob, shape, offsets }: DecodedTable, family: 'ipv4' | 'ipv6'): unknown {
  const { name, chains } = table;
  const inside = chains.map((chain) => ({ ...chain, rules: chain.rules.length, span: undefined }));
  return { blob, shape, offsets, inside, name, text: printTable(table, family) };
}

function outcome(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return error;
  }
}

describe.each(['ipv4', 'ipv6'] as const)('changed %s requests', (family) => {
  const { name, encoded } = tableOf(SAMPLES[family], family);
  const request = replaceRequest(name, encoded, encoded.entryCount);
  const fields = fieldsOf(request, family);
  const everywhere = Array.from({ length: request.length - 4 }, (_, offset) => offset);

  const whole = decodeTable(
    encoded.blob,
    { table: name, entryCount: encoded.entryCount, ...encoded.shape },
    family,
  );

  test('a table read with the one before in mind is the same, or refused for the same reason', () => {
    fc.assert(
      fc.property(mutations, fc.boolean(), (changes, anywhere) => {
        const changed = mutate(request, anywhere ? everywhere : fields, changes);
        const read = (before?: DecodedTable): unknown =>
          outcome(() => {
            const header = decodeReplaceHeader(changed, changed.length);
            const entries = changed.subarray(REPLACE_BYTES, REPLACE_BYTES + header.size);
            return contentOf(decodeTable(entries, header, family, undefined, before), family);
          });
        expect(read(whole)).toEqual(read());
      }),
      { numRuns: RUNS / 3 },
    );
  });

  test('rules that stay are not read again', () => {
    const line = fc
      .tuple(fc.constantFrom('FORWARD', 'one', 'two'), randomRule(family))
      .map(([chain, rule]) => {
        const target = rule.includes(' user') ? rule.replace(/-([jg]) user\b/, '-$1 last') : rule;
        return `-A ${chain} ${target}`.trimEnd();
      });
    const textOf = (lines: readonly string[]): string =>
      `*filter\n${['INPUT', 'FORWARD', 'OUTPUT'].map((chain) => `:${chain} ACCEPT\n`).join('')}:last -\n:one -\n:two -\n${lines.join('\n')}\nCOMMIT\n`;
    const read = (text: string, before?: DecodedTable): DecodedTable => {
      const { name: table, encoded: made } = tableOf(text, family);
      // Counters are in what is sent, and no part of what is compared.
      return decodeTable(
        made.blob,
        { table, entryCount: made.entryCount, ...made.shape },
        family,
        undefined,
        before,
      );
    };
    let kept = 0;
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 8 }),
        fc.array(line, { maxLength: 2 }),
        fc.nat(),
        fc.nat(2),
        (lines, more, at, gone) => {
          const texts = [lines, lines.toSpliced(at % (lines.length + 1), gone, ...more)].map(textOf);
          if (texts.some((text) => outcome(() => read(text)) instanceof Error)) return;
          const before = read(texts[0]!);
          const after = read(texts[1]!, before);
          expect(contentOf(after, family)).toEqual(contentOf(read(texts[1]!), family));
          const old = new Set(before.table.chains.flatMap(({ rules }) => rules));
          kept += after.table.chains.flatMap(({ rules }) => rules).filter((rule) => old.has(rule)).length;
        },
      ),
      { numRuns: RUNS / 10 },
    );
    expect(kept).toBeGreaterThan(0);
  });

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
