/** Short ways to rulesets and requests for tests of live policies. */
import { existsSync, readdirSync } from 'node:fs';
import { expect } from 'vitest';
import type { ApplyRequest } from '../../src/host/index.ts';
import { findBpffs, listIds, openPinnedMap, Program } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import type { Host } from './netns.ts';

let policies = 0;

/** A name of its own for each policy of a run. */
export function policyName(): string {
  policies++;
  return `slc-${process.pid}-${policies}`;
}

/** A filter table that drops what comes in, with these lines. */
export function filterText(lines: readonly string[]): string {
  const chains = [':INPUT DROP [0:0]', ':FORWARD DROP [0:0]', ':OUTPUT ACCEPT [0:0]'];
  return ['*filter', ...chains, ...lines, 'COMMIT', ''].join('\n');
}

export function parsed(text: string, family: Family = 'ipv4'): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'policy', family });
  expect(diagnostics).toEqual([]);
  return ruleset;
}

export function filterRules(lines: readonly string[], family: Family = 'ipv4'): Ruleset {
  return parsed(filterText(lines), family);
}

/** A request for a host's namespace at netfilter. */
export function request(
  host: Host,
  lines: readonly string[],
  more: Partial<ApplyRequest> = {},
): ApplyRequest {
  return {
    policy: policyName(),
    rulesets: [filterRules(lines)],
    hooks: ['netfilter'],
    namespaces: [host.netnsName],
    ...more,
  };
}

/** The errno of a refusal, or "connected". */
export function errorOf(use: () => unknown): string {
  try {
    use();
    return 'connected';
  } catch (error) {
    return (error as { errnoName?: string }).errnoName ?? String(error);
  }
}

/** Ids of the maps that a policy has pinned, and of all programs that use any of them. */
export function kernelObjects(policy: string): { readonly maps: number[]; readonly programs: number[] } {
  const directory = `${findBpffs()}/sluice/policies/${policy}`;
  if (!existsSync(directory)) return { maps: [], programs: [] };
  const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile());
  const maps = names.map(({ name }) => {
    using map = openPinnedMap(`${directory}/${name}`)!;
    return map.id;
  });
  const programs = listIds('program').filter((id) => {
    using program = Program.byId(id);
    return program?.describe().mapIds.some((map) => maps.includes(map)) === true;
  });
  return { maps, programs };
}

/** Those of the ids that still exist in the end: objects go some time after their last user, late on a busy machine. */
export async function remaining(ids: {
  readonly maps: readonly number[];
  readonly programs: readonly number[];
}): Promise<string[]> {
  for (let attempt = 0; ; attempt++) {
    const left = [
      ...listIds('map')
        .filter((id) => ids.maps.includes(id))
        .map((id) => `map ${id}`),
      ...listIds('program')
        .filter((id) => ids.programs.includes(id))
        .map((id) => `program ${id}`),
    ];
    if (left.length === 0 || attempt === 500) return left;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}
