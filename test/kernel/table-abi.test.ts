/** The binary tables of the real iptables and the real kernel: read, written again, and refused with the same errno. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryEngine, TableStore } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import {
  AbiError,
  decodeTable,
  encodeTable,
  parseRuleset,
  printTable,
  type Ruleset,
  type TableName,
  TableOption,
  UnwrittenError,
} from '../../src/rules/index.ts';
import {
  fieldsOf,
  mutate,
  mutations,
  replaceRequest,
  SAMPLES,
  tableOf,
} from '../support/generate/table-requests.ts';
import { restoreProgram } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';
import { canonicalTables } from '../support/rulesets.ts';
import { KernelTables, withoutCounters } from '../support/table-socket.ts';

const TABLES: readonly TableName[] = ['filter', 'raw', 'mangle', 'security'];

/** Extensions of the table that have no binary form here yet. */
function unknownOverAbi({ tables }: Ruleset): string | undefined {
  for (const { chains } of tables)
    for (const { rules } of chains)
      for (const { matches, target } of rules) {
        const match = matches.find(({ extension }) => extension.abi === undefined);
        if (match !== undefined) return `-m ${match.name}`;
        if (target?.kind === 'extension' && target.extension.abi === undefined) return `-j ${target.name}`;
      }
  return undefined;
}

const RUNS = process.env.SLUICE_SOAK === '1' ? 200_000 : 2000;

describeKernel('tables as bytes', () => {
  test.each(['ipv4', 'ipv6'] as const)(
    'changed %s requests end as in the kernel, or are refused where no iptables writes them',
    async (family) => {
      const { name, encoded } = tableOf(SAMPLES[family], family);
      const base = replaceRequest(name, encoded, encoded.entryCount);
      const fields = fieldsOf(base, family);
      const outcomes = new Map<number, number>();
      let stricter = 0;
      await withNamespaces(['a'], async ({ a }) => {
        const kernel = new KernelTables(a, family);
        const fresh = kernel.read(name);
        expect(kernel.set(TableOption.SET_REPLACE, replaceRequest(name, encoded, fresh.entryCount))).toBe(0);
        const store = new TableStore(new MemoryEngine());
        await store.replace(family, replaceRequest(name, encoded, fresh.entryCount), base.length);
        await fc.assert(
          fc.asyncProperty(mutations, async (changes) => {
            const request = mutate(base, fields, changes);
            const theirs = -kernel.set(TableOption.SET_REPLACE, request);
            let reason = '';
            let unwritten = false;
            const ours = await store.replace(family, request, request.length).then(
              () => 0,
              (error: unknown) => {
                expect(error).toBeInstanceOf(AbiError);
                reason = (error as AbiError).message;
                unwritten = error instanceof UnwrittenError;
                return (error as AbiError).errno as number;
              },
            );
            outcomes.set(theirs, (outcomes.get(theirs) ?? 0) + 1);
            if (theirs === 0)
              expect(
                kernel.set(
                  TableOption.SET_REPLACE,
                  replaceRequest(name, encoded, kernel.read(name).entryCount),
                ),
              ).toBe(0);
            if (ours === 0) {
              const taken = store.entryCount(family, name);
              await store.replace(family, replaceRequest(name, encoded, taken), base.length);
            }
            if (theirs === 0 && unwritten) stricter++;
            else expect(`${ours} ${reason}`).toBe(`${theirs} ${ours === theirs ? reason : ''}`);
          }),
          { numRuns: RUNS },
        );
      });
      console.log(`${family}: errno ${JSON.stringify(Object.fromEntries(outcomes))}, stricter ${stricter}`);
      expect(outcomes.size).toBeGreaterThan(4);
      expect(stricter).toBeLessThan(RUNS / 10);
    },
  );

  test('what iptables-restore hands to the kernel is read as the same rules and written as the same bytes', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-abi-'));
    const skipped = new Map<string, number>();
    let compared = 0;
    try {
      await withNamespaces(['a'], async ({ a }) => {
        const tables = { ipv4: new KernelTables(a, 'ipv4'), ipv6: new KernelTables(a, 'ipv6') };
        for (const name of TABLES) {
          for (const { file, ruleset } of canonicalTables(name)) {
            const unknown = ruleset === undefined ? 'text' : unknownOverAbi(ruleset);
            if (ruleset === undefined || unknown !== undefined) {
              skipped.set(unknown!, (skipped.get(unknown!) ?? 0) + 1);
              continue;
            }
            const { family } = ruleset;
            const text = printTable(ruleset.tables[0]!, family);
            const path = join(folder, 'rules');
            writeFileSync(path, text);
            a.exec(restoreProgram(family), [path]);
            compareTable(tables[family], name, family, text, file);
            compared++;
          }
        }
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
    console.log(`compared ${compared}; skipped ${JSON.stringify(Object.fromEntries(skipped))}`);
    expect(compared).toBeGreaterThan(50);
  });
});

function compareTable(
  kernel: KernelTables,
  name: TableName,
  family: Family,
  text: string,
  file: string,
): void {
  const shown = kernel.read(name);
  const decoded = decodeTable(
    shown.blob,
    { table: name, entryCount: shown.entryCount, ...shown.shape },
    family,
  );
  expect(decoded.shape, file).toEqual(shown.shape);
  expect(printTable(decoded.table, family), file).toBe(text);
  const zeroed = withoutCounters(shown.blob, decoded.offsets, family);
  expect(
    Buffer.compare(decoded.blob, zeroed),
    `${file} ${name}: decoded ${firstDifference(decoded.blob, zeroed)}`,
  ).toBe(0);
  const encoded = encodeTable(decoded.table, family);
  expect(
    Buffer.compare(encoded.blob, zeroed),
    `${file} ${name}: encoded ${firstDifference(encoded.blob, zeroed)}`,
  ).toBe(0);
  const parsed = parseRuleset(text, { file, family });
  const fromText = encodeTable(parsed.ruleset.tables[0]!, family);
  expect(
    Buffer.compare(fromText.blob, zeroed),
    `${file} ${name}: from text ${firstDifference(fromText.blob, zeroed)}`,
  ).toBe(0);
}

function firstDifference(ours: Uint8Array, theirs: Uint8Array): string {
  const at = ours.findIndex((byte, index) => byte !== theirs[index]);
  const around = (bytes: Uint8Array): string =>
    Buffer.from(bytes.subarray(Math.max(0, at - 24), at + 24)).toString('hex');
  return `at ${at} of ${ours.length}/${theirs.length}: ours ${around(ours)} theirs ${around(theirs)}`;
}
