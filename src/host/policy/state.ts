/** What is live, from the pins alone: read without the lock, and again when a command changed it meanwhile. */
import { SystemCounter } from '../../compile/index.ts';
import {
  findBpffs,
  findDevice,
  type LinkDescription,
  openNetnsFile,
  queryPrograms,
  requireKernel,
  withNetns,
} from '../../kernel/index.ts';
import { type Chain, parseRuleset, type Ruleset } from '../../rules/index.ts';
import { missingAids, unionOfAids } from './aids.ts';
import { type ChainCounters, type GenerationDocument, ruleCounters } from './document.ts';
import { PolicyError } from './error.ts';
import { OPEN_ROOT } from './generation.ts';
import { describeLinks } from './links.ts';
import { policyNames } from './place.ts';
import type { NetnsRecord } from './record.ts';
import { lookLater, pathOf, type Reachable } from './repair.ts';
import { PolicyStore } from './store.ts';

export interface LiveLink {
  readonly name: string;
  readonly about: LinkDescription;
  /** At devices: how XDP runs (`native`), or the place among the tcx programs (`1 of 2`). */
  readonly stands?: string;
}

/** A policy in one namespace. */
export interface LivePolicy {
  readonly policy: string;
  readonly order: number;
  readonly netns: {
    readonly name: string;
    readonly inode: number;
    readonly cookie: bigint;
    readonly gone: boolean;
  };
  readonly generation: number;
  readonly document: GenerationDocument;
  /** Milliseconds left to confirm; absent when it is confirmed. */
  readonly confirmWithinMs?: number;
  readonly links: readonly LiveLink[];
  /** What must be put right, in words: every command that changes policies does so. */
  readonly problems: readonly string[];
  /** The rules with their live counters. */
  readonly rulesets: readonly Ruleset[];
  /** What programs do outside any rule. */
  readonly system: Readonly<Record<keyof typeof SystemCounter, bigint>>;
}

const ATTEMPTS = 5;

export interface Selection {
  readonly policy?: string | undefined;
  readonly cookie?: bigint | undefined;
}

/** The live policies of a name, or of a namespace, or all. Nothing is mounted or changed. */
export function livePolicies({ policy, cookie }: Selection = {}): LivePolicy[] {
  requireKernel();
  const bpffs = findBpffs();
  if (bpffs === undefined) return [];
  const reachable = lookLater();
  const found: LivePolicy[] = [];
  for (const name of policyNames()) {
    if (policy !== undefined && name !== policy) continue;
    const store = PolicyStore.open(bpffs, name);
    if (store === undefined) continue;
    try {
      for (const record of store.records.all()) {
        if (cookie !== undefined && record.cookie !== cookie) continue;
        const live = readLive(store, record, reachable);
        if (live !== undefined) found.push(live);
      }
    } finally {
      store.close();
    }
  }
  return found.sort((a, b) => a.order - b.order || (a.policy < b.policy ? -1 : a.policy > b.policy ? 1 : 0));
}

/** The one live policy that is meant. @throws {PolicyError} `HOST_POLICY_NONE` */
export function requireLive(selection: Selection): LivePolicy {
  const found = livePolicies(selection);
  if (found.length === 1) return found[0]!;
  const here = selection.cookie === undefined ? '' : ' in this namespace';
  if (found.length === 0) {
    const what = selection.policy === undefined ? 'no policy' : `no policy ${selection.policy}`;
    throw new PolicyError('HOST_POLICY_NONE', `there is ${what}${here}`, 'make one with: sluice apply');
  }
  const names = found.map(({ policy }) => policy).join(', ');
  throw new PolicyError(
    'HOST_POLICY_NONE',
    `there are several policies${here}: ${names}`,
    'name one with --policy',
  );
}

function readLive(store: PolicyStore, record: NetnsRecord, reachable: Reachable): LivePolicy | undefined {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const root = record.running;
    if (root === OPEN_ROOT || root === 0) return undefined;
    const document = store.documentAt(root);
    const rulesets = document && rulesWithCounters(store, root, document);
    // Another command may have replaced the generation between two reads.
    if (document === undefined || rulesets === undefined || record.running !== root) continue;
    const generation = store.generation(root);
    const netns = store.netns(record.cookie);
    const path = pathOf(store, record.cookie, reachable);
    const links = standing(describeLinks(store, record.cookie), path);
    return {
      policy: store.name,
      order: store.about.order,
      netns: {
        name: netns?.name ?? '',
        inode: netns?.inode ?? 0,
        cookie: record.cookie,
        gone: path === undefined,
      },
      generation: generation.number,
      document,
      ...(record.isWaiting()
        ? { confirmWithinMs: Number((record.closesNs - process.hrtime.bigint()) / 1_000_000n) }
        : {}),
      links,
      problems: problemsOf(store, record, document, generation.number, links, path),
      rulesets,
      system: Object.fromEntries(
        Object.entries(SystemCounter).map(([name, index]) => [name, generation.counter(index).packets]),
      ) as Record<keyof typeof SystemCounter, bigint>,
    };
  }
  throw new PolicyError(
    'HOST_POLICY_BUSY',
    `policy ${store.name} changes faster than it can be read`,
    'try again',
  );
}

function rulesWithCounters(store: PolicyStore, root: number, document: GenerationDocument): Ruleset[] {
  const generation = store.generation(root);
  const places = new Map<string, ChainCounters>();
  for (const place of document.chains) places.set(`${place.family} ${place.table} ${place.chain}`, place);
  return document.rulesets.map(({ family, text }) => {
    const { ruleset } = parseRuleset(text, { file: 'live rules', family });
    const tables = ruleset.tables.map((table) => ({
      ...table,
      chains: table.chains.map((chain): Chain => {
        const place = places.get(`${family} ${table.name} ${chain.name}`);
        if (place === undefined) return chain;
        const counters = ruleCounters(place);
        return {
          ...chain,
          ...(place.policy === undefined ? {} : { counters: generation.counter(place.policy) }),
          rules: chain.rules.map((rule, index) => ({
            ...rule,
            counters: generation.counter(counters[index]!),
          })),
        };
      }),
    }));
    return { family, tables };
  });
}

/** Looks up how links stand at their devices, where the namespace can be entered. */
function standing(links: readonly Omit<LiveLink, 'stands'>[], path: string | undefined): LiveLink[] {
  const atDevices = links.some(({ about }) => about.kind === 'xdp' || about.kind === 'tcx');
  if (!atDevices || path === undefined || path === '') return [...links];
  const netns = openNetnsFile(path);
  try {
    return withNetns(netns, () =>
      links.map((link) => {
        const stands = standsAt(link.about);
        return stands === undefined ? link : { ...link, stands };
      }),
    );
  } finally {
    netns.close();
  }
}

/** In the calling thread's namespace. */
function standsAt(about: LinkDescription): string | undefined {
  if (about.kind === 'xdp') {
    const running = findDevice(about.ifindex)?.xdp;
    if (running === undefined) return undefined;
    return (['native', 'generic', 'offloaded'] as const).find((mode) => running[mode] === about.programId);
  }
  if (about.kind !== 'tcx' || about.ifindex === 0) return undefined;
  const attachType = about.direction === 'ingress' ? 'BPF_TCX_INGRESS' : 'BPF_TCX_EGRESS';
  const { programs } = queryPrograms(about.ifindex, attachType);
  const at = programs.findIndex(({ linkId }) => linkId === about.id);
  return at < 0 ? undefined : `${at + 1} of ${programs.length}`;
}

function problemsOf(
  store: PolicyStore,
  record: NetnsRecord,
  document: GenerationDocument,
  number: number,
  links: LivePolicy['links'],
  path: string | undefined,
): string[] {
  if (path === undefined) return ['the namespace has gone; sluice gc takes the policy away'];
  const problems: string[] = [];
  const present = new Set(links.map(({ name }) => name));
  for (const name of document.members.find((member) => member.number === number)?.links ?? [])
    if (!present.has(name)) problems.push(`link ${name} is missing; apply the policy again`);
  if (path === '') return problems;
  const netns = openNetnsFile(path);
  try {
    const aids = unionOfAids(record.named.flatMap((root) => store.aidsAt(root)));
    for (const missing of withNetns(netns, () => missingAids(store.name, aids)))
      problems.push(`${missing}, is missing (nft flush ruleset?); sluice gc puts it back`);
  } finally {
    netns.close();
  }
  return problems;
}
