/** What else decides about packets in a namespace: other firewalls, and programs on its devices. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import {
  findBpffs,
  Link,
  listDevices,
  listIds,
  listNftTables,
  openPinnedLink,
  Program,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import { type ParseResult, parseRuleset } from '../../rules/index.ts';
import { entriesOf, policiesRoot, policyNames } from './place.ts';

export interface OtherFirewall {
  readonly kind: 'iptables-legacy' | 'nftables' | 'bpf-netfilter' | 'xdp';
  readonly what: string;
  readonly remedy: string;
}

/** Other firewalls of the calling thread's namespace. */
export function listOtherFirewalls(): OtherFirewall[] {
  const found: OtherFirewall[] = [];
  for (const [family, file] of [
    ['IPv4', 'ip_tables_names'],
    ['IPv6', 'ip6_tables_names'],
  ] as const) {
    const tables = legacyTables(file);
    if (tables.length === 0) continue;
    found.push({
      kind: 'iptables-legacy',
      what: `${family} tables ${tables.join(', ')}`,
      remedy: 'packets must pass both; take the rules over with: sluice import',
    });
  }
  for (const { family, name } of listNftTables()) {
    if (name.startsWith('sluice-')) continue;
    found.push({
      kind: 'nftables',
      what: `table ${family} ${name}`,
      remedy: 'packets must pass both; see: nft list ruleset',
    });
  }
  const own = ownLinkIds();
  for (const id of listIds('link')) {
    if (own.has(id)) continue;
    const text = netfilterLink(id);
    if (text !== undefined)
      found.push({
        kind: 'bpf-netfilter',
        what: text,
        remedy: 'it may be in another namespace: links do not tell; see: bpftool link',
      });
  }
  for (const { name, xdp } of listDevices()) {
    const id = xdp.native || xdp.generic || xdp.offloaded;
    const program = id === 0 ? undefined : Program.byId(id);
    if (program === undefined) continue;
    if (!program.name.startsWith('slc_'))
      found.push({
        kind: 'xdp',
        what: `device ${name} runs program "${program.name}" (id ${id})`,
        remedy: 'a device takes one XDP program; use --hook tcx-ingress there',
      });
    program.close();
  }
  return found;
}

function legacyTables(file: string): string[] {
  try {
    return readFileSync(`/proc/thread-self/net/${file}`, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

function netfilterLink(id: number): string | undefined {
  const link = Link.byId(id);
  if (link === undefined) return undefined;
  try {
    const about = link.describe();
    if (about.kind !== 'netfilter') return undefined;
    return `BPF link ${id}: ${about.family} hook ${about.hook}, priority ${about.priority}`;
  } finally {
    link.close();
  }
}

function ownLinkIds(): Set<number> {
  const ids = new Set<number>();
  const bpffs = findBpffs();
  for (const name of policyNames()) {
    const directory = `${policiesRoot(bpffs!)}/${name}/netns`;
    for (const cookie of entriesOf(directory)) {
      for (const pinned of entriesOf(`${directory}/${cookie}/links`)) {
        const link = openPinnedLink(`${directory}/${cookie}/links/${pinned}`);
        if (link !== undefined) ids.add(link.id);
        link?.close();
      }
    }
  }
  return ids;
}

/**
 * The running legacy tables of the calling thread's namespace, as `iptables-legacy-save -c` prints them; `undefined` when
 * the family has none, or the tool is not installed.
 */
export function runningRules(family: Family): (ParseResult & { readonly text: string }) | undefined {
  if (legacyTables(family === 'ipv4' ? 'ip_tables_names' : 'ip6_tables_names').length === 0) return undefined;
  const command = family === 'ipv4' ? 'iptables-legacy-save' : 'ip6tables-legacy-save';
  const { status, stdout } = spawnSync(command, ['-c'], { encoding: 'utf8', timeout: 30_000 });
  if (status !== 0) return undefined;
  return { text: stdout, ...parseRuleset(stdout, { file: command, family }) };
}
