/** All matches and targets, by name and family. Adding one is its file and its line in the list. */
import type { Family } from '../net/index.ts';
import type { MatchExtension, TargetExtension } from './extension.ts';
import { MATCHES } from './extensions/matches/index.ts';
import { TARGETS } from './extensions/targets/index.ts';

type ByName<E> = Readonly<Record<Family, ReadonlyMap<string, E>>>;

function index<E extends MatchExtension | TargetExtension>(extensions: readonly E[]): ByName<E> {
  const byName = { ipv4: new Map<string, E>(), ipv6: new Map<string, E>() };
  for (const extension of extensions) {
    for (const family of extension.families) {
      for (const name of [extension.name, ...(extension.aliases ?? [])]) {
        if (byName[family].has(name)) throw new Error(`extension ${name} is registered twice for ${family}`);
        byName[family].set(name, extension);
      }
    }
  }
  return byName;
}

const matches = index(MATCHES);
const targets = index(TARGETS);

/** The match that `-m name` loads. */
export function findMatch(name: string, family: Family): MatchExtension | undefined {
  return matches[family].get(name);
}

/** The target that `-j name` loads; verdicts and chains are not among them. */
export function findTarget(name: string, family: Family): TargetExtension | undefined {
  return targets[family].get(name);
}

/** Names that {@link findMatch} knows for a family. */
export function matchNames(family: Family): Iterable<string> {
  return matches[family].keys();
}

/** Names that {@link findTarget} knows for a family. */
export function targetNames(family: Family): Iterable<string> {
  return targets[family].keys();
}

/** Every registered extension, matches first, in the order of the lists. */
export function allExtensions(): readonly (MatchExtension | TargetExtension)[] {
  return [...MATCHES, ...TARGETS];
}
