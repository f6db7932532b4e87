/**
 * Real rulesets, captures and kernel records lie beside the checkout (their licences do not allow copies in it).
 * Suites that need them skip, and say how many cases they skipped, where they are absent.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../../shared/data');

/** Whether a folder or file of the shared data is there. */
export function sharedDataExists(...path: readonly string[]): boolean {
  return existsSync(join(ROOT, ...path));
}

/** Names in a folder, sorted; none where the data is absent. */
export function sharedDataFiles(...path: readonly string[]): readonly string[] {
  return sharedDataExists(...path) ? readdirSync(join(ROOT, ...path)).sort() : [];
}

export function readSharedText(...path: readonly string[]): string {
  return readFileSync(join(ROOT, ...path), 'utf8');
}

/** Parsed JSON; the caller states its shape. */
export function readSharedJson<T>(...path: readonly string[]): T {
  return JSON.parse(readSharedText(...path)) as T;
}

/** Where a file of the shared data lies. */
export function sharedDataPath(...path: readonly string[]): string {
  return join(ROOT, ...path);
}
