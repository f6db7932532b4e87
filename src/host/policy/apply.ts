/**
 * Making rules live, or replacing those that are. Nothing changes before everything has compiled; then new things are made
 * beside the old ones; one store for each namespace commits; then the old ones are taken away (docs/arena.md).
 */
import {
  ACTIONS_MAP,
  ARENA_VERSION,
  type AttachPoint,
  type CompiledPolicy,
  compilePolicy,
  type EditRoom,
  entryIndex,
  type FragmentStrategy,
  formatWeakened,
  type GenerationImage,
  generationImage,
  type HookName,
  keyOf,
  type MarkChanges,
  NO_MARK_CHANGES,
  type StrategyName,
  SYSTEM_COUNTERS,
} from '../../compile/index.ts';
import {
  ensureBpffs,
  possibleCpus,
  replacePin,
  requireKernel,
  withNetns,
  type XdpMode,
} from '../../kernel/index.ts';
import {
  type Counters,
  needsConntrack,
  printRuleset,
  type Ruleset,
  type SetContents,
  type SetPlace,
  type TableName,
} from '../../rules/index.ts';
import { ensureAids, unionOfAids } from './aids.ts';
import { type Committed, commit, type StepListener } from './commit.ts';
import {
  type ChainCounters,
  countPrograms,
  type GenerationDocument,
  type KernelAids,
  type Member,
  type PlacedProgram,
  ruleCounters,
  writeDocument,
} from './document.ts';
import { editPolicy } from './edit.ts';
import { PolicyError } from './error.ts';
import { findRoom, OPEN_ROOT } from './generation.ts';
import { buildId } from './identity.ts';
import { MAX_ORDER, makeLinks } from './links.ts';
import { mannerOf } from './manner.ts';
import { checkPolicyName, policyNames, withPolicyLock } from './place.ts';
import type { NetnsRecord } from './record.ts';
import { removeStrayGenerations, removeUnwantedLinks, repair, repairAll } from './repair.ts';
import { hasNotes, withWayBeginnings } from './roles.ts';
import { knownSets, placeSets, placesOf, reserveSets, runningSets } from './sets.ts';
import { PolicyStore } from './store.ts';
import { kernelHz, netnsTables } from './surroundings.ts';
import { checkAttachment, closeTargets, openTargets, type Target, wantedLinks } from './target.ts';
import type { TcxPosition } from './tcxposition.ts';

export type ApplyFragments = 'reassemble' | FragmentStrategy;

export interface ApplyRequest {
  readonly policy: string;
  /** One a family at most. */
  readonly rulesets: readonly Ruleset[];
  readonly hooks: readonly HookName[];
  /** Names, paths or pids; none: the namespace of this process. */
  readonly namespaces?: readonly string[];
  readonly devices?: readonly string[];
  readonly cgroup?: string;
  /** Place among the policies at one hook, 0 to MAX_ORDER; absent: the lowest that is free, for a policy that is new. */
  readonly order?: number;
  readonly fragments?: ApplyFragments;
  /** Where XDP programs run; absent: as those that are live, else natively where the driver can. */
  readonly xdpMode?: XdpMode;
  /** Where tcx programs stand among others; absent: as those that are live, else last. */
  readonly tcxPosition?: TcxPosition;
  /** Without a confirmation within this time the policy before runs again. */
  readonly confirmSeconds?: number;
  /** Start with the counters of the rulesets, instead of zero or those of the same rules now live. */
  readonly ownCounters?: boolean;
  readonly allowPartial?: boolean;
  /** Absent: code for few rules, tables for many. */
  readonly strategy?: StrategyName;
  /** Load everything anew, though tables could be edited. */
  readonly whole?: boolean;
  /** IP sets with their entries, all that there shall be; absent: those that are live stay. */
  readonly sets?: readonly SetContents[];
}

export interface ApplyReport {
  readonly policy: string;
  readonly namespaces: readonly {
    readonly name: string;
    readonly cookie: string;
    readonly generation: number;
  }[];
  /** Those that were live already are shared. */
  readonly programs: { readonly loaded: number; readonly shared: number };
  readonly linksMade: number;
  /** Rules that were put in or taken out in the tables that were live; absent: everything was loaded. */
  readonly editedRules?: number;
  /** Why rules that were live have been replaced as a whole. */
  readonly notEdited?: string;
  /** Milliseconds until which it must be confirmed, since 1970. */
  readonly confirmBeforeMs?: number;
  readonly notices: readonly string[];
  readonly weakened: readonly string[];
  /** What earlier commands had left undone. */
  readonly repaired: readonly string[];
  /** Where the time went. */
  readonly times: {
    readonly compileMs: number;
    readonly loadMs: number;
    readonly commitUs: number;
    readonly totalMs: number;
  };
}

/**
 * Applies a policy.
 * @throws {CompileError} with every rule that cannot be compiled; nothing has changed
 * @throws {PolicyError} {@link PolicyErrorCode}
 * @throws {KernelError} what the kernel refuses; what had been made is taken away again
 */
export async function applyPolicy(
  request: ApplyRequest,
  step: StepListener = () => {},
): Promise<ApplyReport> {
  const started = performance.now();
  const hz = kernelHz();
  const edited = request.whole === true ? {} : await editPolicy(request, hz, started, step);
  if ('policy' in edited) return edited;
  const compiled = compileRequest(request, hz, NO_MARK_CHANGES, knownSets(request));
  const compileMs = performance.now() - started;
  requireKernel();
  const targets = openTargets(request.namespaces ?? [], request.devices ?? []);
  try {
    return await withPolicyLock(() => {
      const bpffs = ensureBpffs();
      const repaired = repairAll().done;
      step('create policy');
      const store = openOrCreate(bpffs, request);
      try {
        const done = install(store, request, compiled, hz, targets, step);
        const totalMs = performance.now() - started;
        const { reason } = edited;
        return {
          ...done,
          ...(reason === undefined ? {} : { notEdited: reason }),
          repaired,
          times: { compileMs, ...done.times, totalMs },
        };
      } catch (error) {
        repair(store);
        if (store.records.all().length === 0) store.destroy();
        throw error;
      } finally {
        store.close();
      }
    });
  } finally {
    closeTargets(targets);
  }
}

/** Checks a request and compiles it. @throws {CompileError} @throws {PolicyError} */
export function compileRequest(
  request: ApplyRequest,
  hz: number,
  marks: MarkChanges,
  sets: ReadonlyMap<string, SetPlace>,
): CompiledPolicy {
  checkPolicyName(request.policy);
  const { hooks, devices = [], cgroup, fragments, order = 0 } = request;
  checkAttachment({ hooks, devices, cgroup, xdpMode: request.xdpMode, tcxPosition: request.tcxPosition });
  if (!Number.isInteger(order) || order < 0 || order > MAX_ORDER) {
    throw new PolicyError(
      'HOST_POLICY_USAGE',
      `there is no place ${order} among policies`,
      `places are 0 to ${MAX_ORDER}`,
    );
  }
  const onDevices = hooks.some((hook) => hook === 'xdp' || hook.startsWith('tcx'));
  if (fragments === 'reassemble' && !hooks.includes('netfilter')) {
    throw new PolicyError(
      'HOST_POLICY_USAGE',
      'only the kernel puts fragments together, and only for netfilter hooks',
      'use --hook netfilter, or --fragments drop',
    );
  }
  if (fragments !== undefined && fragments !== 'reassemble' && !onDevices) {
    throw new PolicyError(
      'HOST_POLICY_USAGE',
      `--fragments ${fragments} is for the hooks xdp, tcx-ingress and tcx-egress`,
      'at netfilter rules see whole packets',
    );
  }
  return compilePolicy(request.rulesets, {
    hooks,
    hz,
    marks,
    sets,
    ...(fragments === undefined || fragments === 'reassemble' ? {} : { fragments }),
    ...(request.allowPartial === true ? { allowPartial: true } : {}),
    ...(request.strategy === undefined ? {} : { strategy: request.strategy }),
  });
}

function openOrCreate(bpffs: string, request: ApplyRequest): PolicyStore {
  const { policy, order } = request;
  const found = PolicyStore.open(bpffs, policy);
  if (found !== undefined) {
    if (order === undefined || order === found.about.order) return found;
    found.close();
    throw new PolicyError(
      'HOST_POLICY_TARGET',
      `policy ${policy} has place ${found.about.order} among the policies`,
      'remove it first, or leave --priority out',
    );
  }
  return PolicyStore.create(bpffs, policy, {
    build: buildId(),
    arenaVersion: ARENA_VERSION,
    order: order ?? freeOrder(bpffs),
  });
}

function freeOrder(bpffs: string): number {
  const taken = new Set<number>();
  for (const name of policyNames()) {
    const store = PolicyStore.open(bpffs, name);
    if (store !== undefined) taken.add(store.about.order);
    store?.close();
  }
  for (let order = 0; order <= MAX_ORDER; order++) if (!taken.has(order)) return order;
  throw new PolicyError(
    'HOST_POLICY_FULL',
    `there are ${MAX_ORDER + 1} policies already`,
    'remove one, or say --priority to share a place where their namespaces differ',
  );
}

interface NetnsPlan extends Committed {
  readonly target: Target;
  readonly image: GenerationImage;
  root: number;
  links: readonly ReturnType<typeof wantedLinks>[number][];
}

/** Room for edits, of which no page is taken before it is written to. Code is not edited. */
function roomFor({ classifier, counters }: CompiledPolicy, namespaces: number): EditRoom {
  if (classifier === undefined) return { bytes: 0, counters: 0, state: 0 };
  const bytes = Math.min(Math.max(classifier.size * ROOM_RATIO, LEAST_ROOM), MOST_ROOM / namespaces);
  return {
    bytes: Math.floor(bytes),
    counters: Math.min(Math.max(counters, LEAST_COUNTERS), MOST_COUNTERS),
    state: 256,
  };
}
const ROOM_RATIO = 16;
const LEAST_ROOM = 1 << 20;
const MOST_ROOM = 64 << 20;
const LEAST_COUNTERS = 512;
const MOST_COUNTERS = 4096;

/** Everything from the loading of programs to the removal of what is old. Synchronous: nothing comes between two stores. */
function install(
  store: PolicyStore,
  request: ApplyRequest,
  first: CompiledPolicy,
  hz: number,
  targets: readonly Target[],
  step: StepListener,
): Omit<ApplyReport, 'repaired' | 'times'> & { times: { loadMs: number; commitUs: number } } {
  const started = performance.now();
  const live = store.numbers.map((number) => store.document(String(number))!);
  const named = store.records.all().flatMap((record) => record.named);
  const knownMarks = unionOfAids([
    ...live.map(({ aids }) => aids),
    ...named.flatMap((root) => store.aidsAt(root)),
  ]).marks;
  step('make sets');
  const sets =
    request.sets === undefined
      ? runningSets(
          store,
          targets.map(({ cookie }) => cookie),
        )
      : placeSets(store, request.sets);
  const compiled =
    !knownMarks.whole && knownMarks.bits === 0 && sets.length === 0
      ? first
      : compileRequest(request, hz, knownMarks, placesOf(sets));
  reserveSets(
    store,
    sets,
    compiled.tables.flatMap(({ ir }) => [...ir.chains.values()].flatMap(({ rules }) => rules)),
  );
  const points = withWayBeginnings(compiled.programs.map(({ point }) => point));
  const aids = aidsOf(request.rulesets, compiled, request.hooks);
  const manner = mannerOf(
    store,
    targets.map(({ cookie }) => cookie),
    request,
  );

  step('load programs');
  for (const map of compiled.maps) store.requireMap(map);
  for (const point of points) store.programArray(point);
  const placed: (PlacedProgram & { loaded: boolean })[] = [];
  for (const program of compiled.programs) {
    step(`load ${program.name}`);
    placed.push(store.placeProgram(program, [...live.flatMap(({ programs }) => programs), ...placed]));
  }
  const entries = new Map(placed.map(({ point, index }) => [entryIndex(point), index]));
  const loadMs = performance.now() - started;

  step('write generations');
  const chains = chainCounters(compiled);
  const carried =
    request.ownCounters === true ? ownCounters(request.rulesets, chains) : new Map<number, Counters>();
  const plans: NetnsPlan[] = targets.map((target) => {
    const number = store.takeNumber();
    const image = withNetns(target.netns, () =>
      generationImage(
        compiled.counters,
        compiled.state,
        {
          cpus: possibleCpus(),
          number: BigInt(number),
          entries,
          ...netnsTables(),
          carried,
        },
        compiled.classifier,
        roomFor(compiled, targets.length),
      ),
    );
    const links = wantedLinks(points, aids.chains, target, request.cgroup);
    return { target, number, image, root: 0, links };
  });
  const rooms = findRoom(
    store.arena.buffer.byteLength,
    store.extents(),
    plans.map(({ image }) => image.size),
  );
  const memory = new Uint8Array(store.arena.buffer);
  for (const [index, plan] of plans.entries()) {
    plan.root = rooms[index]!;
    memory.set(plan.image.build(plan.root), plan.root);
  }

  const members = plans.map(
    (plan): Member => ({
      cookie: String(plan.target.cookie),
      number: plan.number,
      links: plan.links.map(({ name }) => name),
    }),
  );
  const document: GenerationDocument = {
    build: buildId(),
    appliedMs: Date.now(),
    rulesets: request.rulesets.map((ruleset) => ({ family: ruleset.family, text: printRuleset(ruleset) })),
    hooks: request.hooks,
    devices: request.devices ?? [],
    ...(request.cgroup === undefined ? {} : { cgroup: request.cgroup }),
    ...(request.fragments === undefined || request.fragments === 'reassemble'
      ? {}
      : { fragments: request.fragments }),
    manner,
    hz,
    allowPartial: request.allowPartial === true,
    ...(request.strategy === undefined ? {} : { strategy: request.strategy }),
    knownMarks,
    chains,
    coded: compiled.coded,
    counters: compiled.counters,
    ownCounters: request.ownCounters === true,
    logs: compiled.logs,
    programs: placed.map(({ loaded: _, ...program }) => program),
    aids,
    weakened: compiled.weakened.map(formatWeakened),
    notices: compiled.notices,
    members,
    sets,
  };
  const confirm = request.confirmSeconds;
  let linksMade = 0;
  let commitUs = 0;
  const map = writeDocument(document);
  try {
    step('pin documents');
    for (const plan of plans) store.keepDocument(document, map, plan.number);
    for (const { target, links } of plans) {
      const record = prepareNetns(store, target, step);
      step(`tables of ${target.cookie}`);
      const running = record.named.flatMap((root) => store.aidsAt(root));
      withNetns(target.netns, () => ensureAids(store, unionOfAids([...running, aids])));
      const options = {
        defragment: request.fragments === undefined || request.fragments === 'reassemble',
        cgroup: request.cgroup,
        manner,
      };
      step(`links of ${target.cookie}`);
      makeLinks(store, target, links, points, options, (name) => {
        linksMade++;
        step(`link ${name}`);
      });
    }
    const running = live.flatMap(({ programs }) => programs.map(({ point }) => point));
    const notes = hasNotes([...points, ...running]);
    commitUs = commit(store, plans, { confirmSeconds: confirm, notes }, step);
  } finally {
    map.close();
  }
  step('clean up');
  for (const { cookie } of members) removeUnwantedLinks(store, store.records.find(BigInt(cookie))!);
  removeStrayGenerations(store);
  const loaded = placed.filter((program) => program.loaded).length;
  return {
    policy: store.name,
    namespaces: plans.map(({ target, number: generation }) => ({
      name: target.name,
      cookie: String(target.cookie),
      generation,
    })),
    programs: { loaded, shared: countPrograms(placed) - loaded },
    linksMade,
    ...(confirm === undefined ? {} : { confirmBeforeMs: Date.now() + confirm * 1000 }),
    notices: compiled.notices,
    weakened: document.weakened,
    times: { loadMs, commitUs },
  };
}

/** The namespace's record, made if it has none: until the commit every packet passes there. */
function prepareNetns(store: PolicyStore, target: Target, step: StepListener): NetnsRecord {
  const known = store.netns(target.cookie);
  if (known === undefined || (target.name !== '' && known.name !== target.name)) {
    const about = writeDocument({ inode: target.inode, name: target.name });
    try {
      replacePin(about, store.place.netnsDocument(target.cookie));
    } finally {
      about.close();
    }
  }
  step(`record of ${target.cookie}`);
  return store.records.find(target.cookie) ?? store.records.make(target.cookie, OPEN_ROOT);
}

/** What the compiled rules want of the kernel's own code. */
export function aidsOf(
  rulesets: readonly Ruleset[],
  compiled: CompiledPolicy,
  hooks: readonly HookName[],
): KernelAids {
  const handing = compiled.programs.filter(({ code }) =>
    [...code.references.values()].some(
      (reference) => reference.kind === 'map' && reference.name === ACTIONS_MAP,
    ),
  );
  return {
    // Sockets' cgroup-ingress is the only hook where no rule can ask for the state.
    conntrack: hooks.some((hook) => hook !== 'cgroup-ingress') && rulesets.some(needsConntrack),
    chains: handing
      .map(({ point }) => point)
      .filter((point): point is AttachPoint & { flavour: 'netfilter' } => point.flavour === 'netfilter'),
    marks: compiled.marks,
    rejects: compiled.rejects,
  };
}

/** Where the counters of each chain lie among the generation's. */
export function chainCounters(compiled: CompiledPolicy): ChainCounters[] {
  const numbers = new Map(
    compiled.chains.map(({ family, table, chain, number }) => [keyOf(family, table, chain), number]),
  );
  return compiled.tables.flatMap(({ ir, firstCounter }) => {
    let next = SYSTEM_COUNTERS + firstCounter;
    return [...ir.chains.values()].map((chain): ChainCounters => {
      const first = next;
      next += chain.rules.length + (chain.policy === undefined ? 0 : 1);
      return {
        family: ir.family,
        table: ir.table as TableName,
        chain: chain.name,
        number: numbers.get(keyOf(ir.family, ir.table, chain.name)) ?? 0,
        rules: chain.rules.length === 0 ? [] : [[first, chain.rules.length]],
        ...(chain.policy === undefined
          ? {}
          : { policy: SYSTEM_COUNTERS + firstCounter + chain.policy.counter }),
      };
    });
  });
}

function ownCounters(rulesets: readonly Ruleset[], places: readonly ChainCounters[]): Map<number, Counters> {
  const carried = new Map<number, Counters>();
  for (const place of places) {
    const { family, table, chain: name, policy } = place;
    const indexes = ruleCounters(place);
    const chain = rulesets
      .find((ruleset) => ruleset.family === family)
      ?.tables.find((one) => one.name === table)
      ?.chains.find((one) => one.name === name);
    for (const [index, rule] of (chain?.rules ?? []).entries()) carried.set(indexes[index]!, rule.counters);
    if (policy !== undefined && chain !== undefined) carried.set(policy, chain.counters);
  }
  return carried;
}
