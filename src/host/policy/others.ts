/** What else decides about packets in a namespace: other firewalls, and programs on its devices. */
import {
  findBpffs,
  Link,
  listDevices,
  listIds,
  listLegacyTables,
  listNftTables,
  openPinnedLink,
  Program,
  readLegacyTable,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import { AbiError, decodeRunningTable, printRuleset, type Ruleset, type Table } from '../../rules/index.ts';
import { entriesOf, policiesRoot, policyNames } from './place.ts';

export interface OtherFirewall {
  readonly kind: 'iptables-legacy' | 'nftables' | 'bpf-netfilter' | 'xdp';
  readonly what: string;
  readonly remedy: string;
}

/** Other firewalls of the calling thread's namespace. */
export function listOtherFirewalls(): OtherFirewall[] {
  const found: OtherFirewall[] = [];
  for (const [title, family] of [
    ['IPv4', 'ipv4'],
    ['IPv6', 'ipv6'],
  ] as const) {
    const tables = listLegacyTables(family);
    if (tables.length === 0) continue;
    found.push({
      kind: 'iptables-legacy',
      what: `${title} tables ${tables.join(', ')}`,
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
  const own = ownLinks();
  for (const id of listIds('link')) {
    if (own.links.has(id)) continue;
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
    const program = id === 0 || own.programs.has(id) ? undefined : Program.byId(id);
    if (program === undefined) continue;
    found.push({
      kind: 'xdp',
      what: `device ${name} runs program "${program.name}" (id ${id})`,
      remedy: 'a device takes one XDP program; use --hook tcx-ingress there',
    });
    program.close();
  }
  return found;
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

/** Ids of the links of policies, and of the programs that they run. */
function ownLinks(): { readonly links: ReadonlySet<number>; readonly programs: ReadonlySet<number> } {
  const links = new Set<number>();
  const programs = new Set<number>();
  const bpffs = findBpffs();
  for (const name of policyNames()) {
    const directory = `${policiesRoot(bpffs!)}/${name}/netns`;
    for (const cookie of entriesOf(directory)) {
      for (const pinned of entriesOf(`${directory}/${cookie}/links`)) {
        const link = openPinnedLink(`${directory}/${cookie}/links/${pinned}`);
        if (link === undefined) continue;
        const { id, programId } = link.describe();
        links.add(id);
        programs.add(programId);
        link.close();
      }
    }
  }
  return { links, programs };
}

export interface RunningRules {
  readonly ruleset: Ruleset;
  /** As `iptables-save -c` prints them. */
  readonly text: string;
  /** Tables that hold what no rule can say, with the reason. */
  readonly unread: readonly string[];
}

/** The running legacy tables of the calling thread's namespace; `undefined` when the family has none. */
export function runningRules(family: Family): RunningRules | undefined {
  const names = listLegacyTables(family);
  if (names.length === 0) return undefined;
  const tables: Table[] = [];
  const unread: string[] = [];
  for (const name of names) {
    try {
      const { info, entries } = readLegacyTable(family, name);
      tables.push(decodeRunningTable(info, entries, family));
    } catch (error) {
      if (!(error instanceof AbiError)) throw error;
      unread.push(`table ${name}: ${error.message}`);
    }
  }
  const ruleset = { family, tables };
  return { ruleset, text: printRuleset(ruleset, { counters: true }), unread };
}
