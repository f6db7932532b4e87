/**
 * The binary form of every extension: random rules are read from the bytes that the real iptables-restore made, as the
 * same text, and written as the same bytes; revisions and names are those that the running kernel registers.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import {
  AbiError,
  decodeTable,
  encodeTable,
  findRevision,
  parseRuleset,
  printTable,
  type SetNumbers,
  type Table,
  TableOption,
} from '../../src/rules/index.ts';
import { allExtensions } from '../../src/rules/registry.ts';
import { restoreProgram } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';
import { randomExtensionRuleset } from '../support/random-extension-rules.ts';
import { RULE_SETS, randomSetRuleset } from '../support/random-set-rules.ts';
import { KernelTables, withoutCounters } from '../support/table-socket.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 2000 : 30;
/** Beyond the newest revision of anything. */
const REVISIONS = [0, 1, 2, 3, 4, 5, 6];
/** Not in every kernel's configuration. */
const MAY_LACK = ['ipvs', 'LED', 'osf', 'SYNPROXY', 'nfacct'];

describeKernel('extensions as bytes', () => {
  test('revisions are those of the kernel', async () => {
    await withNamespaces(['a'], ({ a }) => {
      for (const family of ['ipv4', 'ipv6'] as const) {
        const kernel = new KernelTables(a, family);
        for (const kind of ['match', 'target'] as const) {
          const option = kind === 'match' ? 'GET_REVISION_MATCH' : 'GET_REVISION_TARGET';
          const names = new Set(
            allExtensions()
              .filter((extension) => extension.kind === kind)
              .flatMap(({ name, abi = [] }) => [name, ...abi.map((form) => form.name)]),
          );
          for (const name of names) {
            const theirs: number[] = [];
            const ours: number[] = [];
            for (const revision of REVISIONS) {
              const request = new Uint8Array(30);
              request.set(new TextEncoder().encode(name));
              request[29] = revision;
              theirs.push(Math.abs(kernel.get(TableOption[option][family], request)));
              ours.push(errnoOf(() => findRevision(kind, family, name, revision)));
            }
            const lacks = MAY_LACK.includes(name) && theirs.every((errno) => errno === 2);
            if (!lacks) expect(ours, `${family} ${kind} ${name}`).toEqual(theirs);
          }
        }
      }
    });
  });

  test.each<Family>(['ipv4', 'ipv6'])('random %s rules are the same bytes', async (family) => {
    let compared = 0;
    await withNamespaces(['a'], ({ a }) => {
      a.exec('ipset', ['restore'], { input: RULE_SETS[family] });
      const kernel = new KernelTables(a, family);
      const sets = kernel.sets();
      fc.assert(
        fc.property(fc.oneof(randomExtensionRuleset(family), randomSetRuleset()), (text) => {
          const { ruleset } = parseRuleset(text, { file: 'rules', family });
          a.exec(restoreProgram(family), [], { input: text });
          for (const table of ruleset.tables) compared += compare(kernel, table, sets);
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
    });
    expect(compared).toBeGreaterThan(RUNS);
  });
});

function errnoOf(ask: () => void): number {
  try {
    ask();
    return 0;
  } catch (error) {
    if (!(error instanceof AbiError)) throw error;
    return error.errno;
  }
}

/** How many rules the table has. */
function compare(kernel: KernelTables, table: Table, sets: SetNumbers): number {
  const { family } = kernel;
  const shown = kernel.read(table.name);
  const request = { table: table.name, entryCount: shown.entryCount, ...shown.shape };
  const decoded = decodeTable(shown.blob, request, family, sets);
  const zeroed = withoutCounters(shown.blob, decoded.offsets, family);
  const printed = printTable(table, family);
  expect(printTable(decoded.table, family)).toBe(printed);
  for (const [what, ours] of [
    ['decoded', decoded.blob],
    ['encoded', encodeTable(decoded.table, family, sets).blob],
    ['from text', encodeTable(table, family, sets).blob],
  ] as const)
    expect(difference(ours, zeroed), `${what}: ${printed}`).toBe('');
  return table.chains.reduce((sum, { rules }) => sum + rules.length, 0);
}

function difference(ours: Uint8Array, theirs: Uint8Array): string {
  const at = ours.findIndex((byte, index) => byte !== theirs[index]);
  if (at < 0 && ours.length === theirs.length) return '';
  const around = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(at - 24, at + 24)).toString('hex');
  return `at ${at}: ours ${around(ours)} theirs ${around(theirs)}`;
}
