/** The revisions of matches and targets that are answered for are those that the running kernel has. */
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import {
  AbiError,
  ENTRY_LAYOUTS,
  findRevision,
  matchNames,
  REVISION_BYTES,
  TableOption,
  targetNames,
} from '../../src/rules/index.ts';
import { findForms } from '../../src/rules/uapi/lookup.ts';
import { replaceRequest, tableOf } from '../support/generate/table-requests.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';
import { KernelTables } from '../support/table-socket.ts';

/** Revisions beyond any that exist. */
const REVISIONS = 7;
const UNKNOWN_REVISION = 99;

function errnoOf(work: () => void): number {
  try {
    work();
    return 0;
  } catch (error) {
    if (error instanceof AbiError) return error.errno;
    throw error;
  }
}

/** Not in every kernel's configuration. */
const MAY_LACK: ReadonlySet<string> = new Set(['ipvs', 'LED', 'osf', 'nfacct', 'SYNPROXY']);

/** A request whose only rule has a match or target of this name, in a revision that does not exist. */
function requestWith(
  kind: 'match' | 'target',
  name: string,
  family: Family,
  counters: number,
): Uint8Array<ArrayBuffer> {
  const text =
    kind === 'match'
      ? '*filter\n-A INPUT -m comment --comment x -j ACCEPT\nCOMMIT\n'
      : '*filter\n-A INPUT -j MARK --set-xmark 0x1\nCOMMIT\n';
  const { encoded } = tableOf(text, family);
  const request = replaceRequest('filter', encoded, counters);
  const at = 96 + ENTRY_LAYOUTS[family].bytes;
  request.fill(0, at + 2, at + 31);
  request.set(new TextEncoder().encode(name), at + 2);
  request[at + 31] = UNKNOWN_REVISION;
  return request;
}

describeKernel('registered extensions', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s', async (family) => {
    await withNamespaces(['a'], async ({ a }) => {
      const kernel = new KernelTables(a, family);
      const counters = kernel.read('filter').entryCount;
      for (const kind of ['match', 'target'] as const) {
        const option = TableOption[kind === 'match' ? 'GET_REVISION_MATCH' : 'GET_REVISION_TARGET'][family];
        for (const name of kind === 'match' ? matchNames(family) : targetNames(family)) {
          const requestFor = (revision: number): Uint8Array<ArrayBuffer> => {
            const request = new Uint8Array(REVISION_BYTES);
            request.set(new TextEncoder().encode(name));
            request[29] = revision;
            return request;
          };
          if (MAY_LACK.has(name) && kernel.get(option, requestFor(0)) === -2) continue;
          for (let revision = 0; revision < REVISIONS; revision++) {
            const ours = errnoOf(() => findRevision(kind, family, name, revision));
            expect(`${kind} ${name} ${revision}: ${ours}`).toBe(
              `${kind} ${name} ${revision}: ${-kernel.get(option, requestFor(revision))}`,
            );
          }
          const theirs = -kernel.set(TableOption.SET_REPLACE, requestWith(kind, name, family, counters));
          const ours = errnoOf(() => findForms(kind, family, name, UNKNOWN_REVISION));
          expect.soft(`${kind} ${name} in an entry: ${ours}`).toBe(`${kind} ${name} in an entry: ${theirs}`);
        }
      }
    });
  });
});
