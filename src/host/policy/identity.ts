/** Which build of Sluice made something. */
import { readFileSync } from 'node:fs';

/** The build that documents name: the package's version. */
export function buildId(): string {
  known ??= readVersion();
  return known;
}
let known: string | undefined;

function readVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
