/**
 * IP sets of live policies: which there are, where their records lie, and every operation on them. Sets belong to a policy;
 * a generation names those that it uses, so that a set lives as long as a generation that knows it (docs/sets.md).
 */
import { randomBytes } from 'node:crypto';
import {
  createSet,
  ROOT_ALIGNMENT,
  SET_SLOTS,
  type SetMemory,
  SetRecord,
  SetTable,
} from '../../compile/index.ts';
import { changedKeys, type IrRule } from '../../ir/index.ts';
import { requireKernel, waitForGracePeriod } from '../../kernel/index.ts';
import {
  formatCreate,
  parseCreate,
  placesInOrder,
  type SetContents,
  type SetDefinition,
  type SetPlace,
  wordsOf,
} from '../../rules/index.ts';
import { type GenerationDocument, type PlacedSet, writeDocument } from './document.ts';
import { PolicyError } from './error.ts';
import { findRoom } from './generation.ts';
import { withPolicyLock } from './place.ts';
import { repair } from './repair.ts';
import { openSelected } from './selected.ts';
import { recordAt, setExtents } from './setextents.ts';
import type { Selection } from './state.ts';
import type { PolicyStore } from './store.ts';

/** Arena memory of a policy, for its sets. */
class ArenaSets implements SetMemory {
  readonly buffer: ArrayBuffer;
  /** Extents that a set left in this command: packets may still look at them. */
  readonly retired: { root: number; size: number }[] = [];
  readonly #store: PolicyStore;
  readonly #taken: { root: number; size: number }[] = [];

  constructor(store: PolicyStore) {
    this.#store = store;
    this.buffer = store.arena.buffer;
  }

  allocate(bytes: number): number {
    const used = [...this.#store.extents(), ...this.#taken, ...this.retired];
    this.retired.push(...setExtents(this.buffer));
    const [root] = findRoom(this.buffer.byteLength, used, [bytes]);
    new Uint8Array(this.buffer, root, Math.ceil(bytes / ROOT_ALIGNMENT) * ROOT_ALIGNMENT).fill(0);
    this.#taken.push({ root: root!, size: bytes });
    return root!;
  }

  nowNs(): bigint {
    return process.hrtime.bigint();
  }

  random64(): bigint {
    return randomBytes(8).readBigUInt64LE();
  }

  /** After this nobody looks at what sets have left. */
  settle(): void {
    if (this.retired.length > 0) waitForGracePeriod();
    this.retired.length = 0;
  }
}

/** Slots that nobody uses. */
function freeSlots(arena: ArrayBuffer, wanted: number): number[] {
  const view = new DataView(arena);
  const free: number[] = [];
  for (let slot = 0; slot < SET_SLOTS && free.length < wanted; slot++) {
    if (view.getUint32(recordAt(slot) + SetRecord.used, true) === 0) free.push(slot);
  }
  if (free.length < wanted) {
    throw new PolicyError(
      'HOST_POLICY_FULL',
      `a policy has at most ${SET_SLOTS} sets, those of the generation before among them`,
      'destroy sets that no rule names, or use another --policy name',
    );
  }
  return free;
}

/** Sets as documents keep them, and back. */
export function definitionOf({ create, members = [] }: PlacedSet): SetDefinition {
  return { ...parseCreate(wordsOf(create).slice(1)), members };
}

/** Sets that rules may name, before any is made: their numbers are not those that programs will have. */
export function knownSets(request: {
  readonly policy: string;
  readonly sets?: readonly SetContents[];
}): Map<string, SetPlace> {
  if (request.sets !== undefined) return placesInOrder(request.sets);
  const stores = openSelected({ policy: request.policy });
  try {
    return placesOf(
      stores.flatMap((store) =>
        store.records.all().flatMap(({ running }) => store.loadedAt(running)?.sets ?? []),
      ),
    );
  } finally {
    for (const store of stores) store.close();
  }
}

export function placesOf(sets: readonly PlacedSet[]): Map<string, SetPlace> {
  return new Map(sets.map((set) => [set.name, { definition: definitionOf(set), slot: set.slot }]));
}

/** Makes the sets of an apply, beside those that are live. */
export function placeSets(store: PolicyStore, sets: readonly SetContents[]): PlacedSet[] {
  const memory = new ArenaSets(store);
  const slots = freeSlots(memory.buffer, sets.length);
  const placed = sets.map(({ definition, elements }, index): PlacedSet => {
    const slot = slots[index]!;
    const table = createSet(memory, recordAt(slot), definition, roomFor(definition, elements.length));
    const { full } = table.load(elements);
    if (full > 0) {
      throw new PolicyError(
        'HOST_SET_FULL',
        `set ${definition.name} has room for ${definition.maxelem} entries: ${full} do not fit`,
        'create it with a larger maxelem',
      );
    }
    const { name, members } = definition;
    return { name, slot, create: formatCreate(definition), ...(members.length > 0 ? { members } : {}) };
  });
  memory.settle();
  return placed;
}

/** Counters and missing MAC addresses are written by packets, which a table that grows would lose. */
function roomFor({ counters, maxelem, type }: SetDefinition, entries: number): number {
  return counters || type.holdsMac ? maxelem : entries;
}

/** Sets that packets change by these rules have all their room before the first packet. */
export function reserveSets(
  store: PolicyStore,
  sets: readonly PlacedSet[],
  rules: Iterable<Pick<IrRule, 'action'>>,
): void {
  const changed = new Set<number>();
  for (const { action } of rules) {
    if (action.kind !== 'set') continue;
    for (const { slot } of changedKeys(action)) changed.add(slot);
  }
  const memory = new ArenaSets(store);
  for (const set of sets) {
    if (changed.has(set.slot)) new SetTable(memory, recordAt(set.slot), definitionOf(set)).reserve();
  }
  memory.settle();
}

/** The sets that the generations running in these namespaces know. @throws {PolicyError} when they differ */
export function runningSets(store: PolicyStore, cookies: readonly bigint[]): PlacedSet[] {
  const found = new Map<string, PlacedSet>();
  for (const cookie of cookies) {
    const record = store.records.find(cookie);
    const document = record === undefined ? undefined : store.loadedAt(record.running);
    for (const set of document?.sets ?? []) {
      const known = found.get(set.name);
      if (known !== undefined && known.slot !== set.slot) {
        throw new PolicyError(
          'HOST_SET_AMBIGUOUS',
          `the namespaces have different sets named ${set.name}`,
          'name one with --netns',
        );
      }
      found.set(set.name, set);
    }
  }
  return [...found.values()];
}

/** A set of a live policy, under the policy lock. */
export interface LiveSet {
  readonly policy: string;
  readonly definition: SetDefinition;
  readonly table: SetTable;
}

/** Runs `use` with the sets that the selected policies have, nobody else changing policies meanwhile. */
async function withSets<T>(selection: Selection, use: (sets: LiveSet[]) => T): Promise<T> {
  requireKernel();
  return await withPolicyLock(() => {
    const stores = openSelected(selection);
    const memories: ArenaSets[] = [];
    try {
      const sets = stores.flatMap((store) => {
        const memory = new ArenaSets(store);
        memories.push(memory);
        return runningSets(store, cookiesOf(store, selection)).map((set): LiveSet => {
          const definition = definitionOf(set);
          return {
            policy: store.name,
            definition,
            table: new SetTable(memory, recordAt(set.slot), definition),
          };
        });
      });
      return use(sets);
    } finally {
      for (const memory of memories) memory.settle();
      for (const store of stores) store.close();
    }
  });
}

function cookiesOf(store: PolicyStore, { cookie }: Selection): bigint[] {
  return store.records
    .all()
    .map((record) => record.cookie)
    .filter((one) => cookie === undefined || one === cookie);
}

/** All sets of the selected policies. */
export async function liveSets<T>(selection: Selection, use: (sets: readonly LiveSet[]) => T): Promise<T> {
  return await withSets(selection, use);
}

/** The one set of that name. @throws {PolicyError} `HOST_SET_NONE`, `HOST_SET_AMBIGUOUS`, `HOST_SET_ENTRY` for lists */
export async function liveSet<T>(selection: Selection, name: string, use: (set: LiveSet) => T): Promise<T> {
  return await withSets(selection, (sets) => {
    const [found, ...more] = sets.filter(({ definition }) => definition.name === name);
    if (found === undefined)
      throw new PolicyError('HOST_SET_NONE', `no live policy here has a set ${name}`, 'see: sluice set list');
    if (more.length > 0) {
      throw new PolicyError(
        'HOST_SET_AMBIGUOUS',
        `policies ${[found, ...more].map(({ policy }) => policy).join(', ')} have a set ${name}`,
        'name one with --policy',
      );
    }
    if (found.definition.type.method === 'list')
      throw new PolicyError(
        'HOST_SET_ENTRY',
        `${name} is a list of sets: its members come with the rules`,
        'change them in the file of sets, and apply it with --sets',
      );
    return use(found);
  });
}

/** Changes which sets the generations that run in the selected namespaces know. */
async function changeSets(
  selection: Selection,
  change: (store: PolicyStore, known: readonly PlacedSet[]) => readonly PlacedSet[],
): Promise<void> {
  requireKernel();
  await withPolicyLock(() => {
    const stores = openSelected(selection);
    try {
      const [store, ...more] = stores;
      if (store === undefined)
        throw new PolicyError('HOST_POLICY_NONE', 'there is no policy here', 'see: sluice status');
      if (more.length > 0)
        throw new PolicyError(
          'HOST_SET_AMBIGUOUS',
          'several policies are live here',
          'name one with --policy',
        );
      const cookies = cookiesOf(store, selection);
      const sets = change(store, runningSets(store, cookies));
      for (const cookie of cookies) {
        const record = store.records.find(cookie)!;
        const document = store.loadedAt(record.running);
        if (document === undefined) continue;
        const changed: GenerationDocument = { ...document, sets };
        const map = writeDocument(changed);
        try {
          store.replaceDocument(changed, map, store.loadedNumber(record.running));
        } finally {
          map.close();
        }
      }
      waitForGracePeriod();
      repair(store);
    } finally {
      for (const store of stores) store.close();
    }
  });
}

/** Makes an empty set. @throws {PolicyError} `HOST_SET_EXISTS` */
export async function createLiveSet(selection: Selection, definition: SetDefinition): Promise<void> {
  await changeSets(selection, (store, known) => {
    if (known.some(({ name }) => name === definition.name))
      throw new PolicyError(
        'HOST_SET_EXISTS',
        `set ${definition.name} is there already`,
        'see: sluice set list',
      );
    return [...known, ...placeSets(store, [{ definition, elements: [] }])];
  });
}

/** Takes a set away that no rule names. @throws {PolicyError} `HOST_SET_NONE`, `HOST_SET_IN_USE` */
export async function destroyLiveSet(selection: Selection, name: string): Promise<void> {
  await changeSets(selection, (store, known) => {
    if (!known.some((set) => set.name === name))
      throw new PolicyError('HOST_SET_NONE', `no live policy here has a set ${name}`, 'see: sluice set list');
    const user = cookiesOf(store, selection)
      .map((cookie) => store.documentAt(store.records.find(cookie)!.running))
      .find((document) => document?.rulesets.some(({ text }) => namesSet(text, name)));
    if (user !== undefined)
      throw new PolicyError('HOST_SET_IN_USE', `rules name the set ${name}`, 'apply rules without it first');
    const list = known.find(({ members = [] }) => members.some((member) => member.name === name));
    if (list !== undefined)
      throw new PolicyError(
        'HOST_SET_IN_USE',
        `${name} is a member of ${list.name}`,
        `destroy ${list.name} first`,
      );
    return known.filter((set) => set.name !== name);
  });
}

function namesSet(rules: string, name: string): boolean {
  return rules
    .split('\n')
    .some((line) => / --(?:match-set|add-set|del-set|map-set) /.test(line) && line.split(' ').includes(name));
}
