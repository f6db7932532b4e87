/** The shared captures: every one that has reference texts beside it. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { sharedDataExists } from '../support/shared-data.ts';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../../shared/data/pcaps');
const STORED = '.tshark.tsv';

/** Paths of the captures, sorted, relative to the shared folder; none where the data is absent. */
export function capturePaths(): readonly string[] {
  if (!sharedDataExists('pcaps')) return [];
  return readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(STORED))
    .map((name) => name.slice(0, -STORED.length))
    .sort();
}

/** The capture's bytes, decompressed; no Buffer, whose slices are views. */
export function readCaptureBytes(path: string): Uint8Array {
  const bytes = readFileSync(join(ROOT, path));
  return new Uint8Array(bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes);
}

/** Bytes of the stored tshark answer. */
export function storedTsharkSize(path: string): number {
  return statSync(join(ROOT, path + STORED)).size;
}

/** What `tcpdump -v` said of the capture; empty where it said nothing. */
export function readStoredTcpdump(path: string): string {
  const name = `pcaps/${path}.tcpdump.txt`;
  return sharedDataExists(name) ? readFileSync(join(ROOT, `${path}.tcpdump.txt`), 'utf8') : '';
}

/** The tshark to ask: SLUICE_TSHARK, or the one on the path; `undefined` when neither runs. */
export function findTshark(): string | undefined {
  for (const candidate of [process.env.SLUICE_TSHARK, 'tshark']) {
    if (candidate === undefined) continue;
    try {
      execFileSync(candidate, ['--version'], { stdio: 'ignore' });
      return candidate;
    } catch {
      // The next one may run.
    }
  }
  return undefined;
}
