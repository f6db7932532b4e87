/** Short ways to rulesets and requests for tests of live policies. */
import { existsSync, readdirSync } from 'node:fs';
import { expect } from 'vitest';
import type { ApplyRequest } from '../../src/host/index.ts';
import { findBpffs, Link, listIds, openPinnedMap, Program } from '../../src/kernel/index.ts';
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

/** Ids of what is in the kernel because of a policy. */
export interface KernelObjects {
  readonly maps: readonly number[];
  readonly programs: readonly number[];
  readonly links: readonly number[];
}

/** The maps that a policy has pinned, all programs that use any of them, and all links of those. */
export function kernelObjects(policy: string): KernelObjects {
  const directory = `${findBpffs()}/sluice/policies/${policy}`;
  if (!existsSync(directory)) return { maps: [], programs: [], links: [] };
  const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile());
  const maps = names.map(({ name }) => {
    using map = openPinnedMap(`${directory}/${name}`)!;
    return map.id;
  });
  const programs = listIds('program').filter((id) => {
    using program = Program.byId(id);
    return program?.describe().mapIds.some((map) => maps.includes(map)) === true;
  });
  const links = listIds('link').filter((id) => {
    using link = Link.byId(id);
    return link !== undefined && programs.includes(link.describe().programId);
  });
  return { maps, programs, links };
}

/** Those of the ids that still exist in the end: objects go some time after their last user, late on a busy machine. */
export async function remaining({ maps, programs, links }: KernelObjects): Promise<string[]> {
  const made = [
    ['map', maps],
    ['program', programs],
    ['link', links],
  ] as const;
  for (let attempt = 0; ; attempt++) {
    const left = made.flatMap(([kind, ids]) =>
      listIds(kind)
        .filter((id) => ids.includes(id))
        .map((id) => `${kind} ${id}`),
    );
    if (left.length === 0 || attempt === 500) return left;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}
