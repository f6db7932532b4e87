/** The shared rulesets by path, and the canonical forms that iptables 1.8.9 gave them. */
import { readdirSync } from 'node:fs';
import type { Family } from '../../src/net/index.ts';
import { readSharedText, sharedDataExists, sharedDataFiles, sharedDataPath } from './shared-data.ts';

export interface CanonicalFile {
  readonly name: string;
  readonly family: Family;
  /** Name of the ruleset it was made from, its path with "__" for "/". */
  readonly source: string;
  readonly backend: string;
}

export function canonicalFiles(): readonly CanonicalFile[] {
  return sharedDataFiles('rulesets-canonical').map((name) => {
    const [, source, backend, version] = /^(.*)\.(legacy|nft)\.(v4|v6)$/.exec(name)!;
    return { name, source: source!, backend: backend!, family: version === 'v4' ? 'ipv4' : 'ipv6' };
  });
}

export function readCanonical(file: CanonicalFile): string {
  return readSharedText('rulesets-canonical', file.name);
}

/** All rulesets by their paths with "__" for "/". */
export function rulesetPaths(): ReadonlyMap<string, string> {
  if (!sharedDataExists('rulesets')) return new Map();
  const root = sharedDataPath('rulesets');
  const paths = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(root.length + 1));
  return new Map(paths.sort().map((path) => [path.replaceAll('/', '__'), path]));
}

export function readRuleset(path: string): string {
  return readSharedText('rulesets', path);
}
