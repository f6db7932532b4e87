/**
 * One policy in one namespace, kept open by what asks for it often: whether others have changed its rules is seen from
 * memory and two stat(2), its counters are read and moved without parsing rules.
 */
import { statSync } from 'node:fs';
import { findBpffs, requireKernel } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import {
  type AskableSets,
  type Counters,
  parseRuleset,
  type Ruleset,
  type TableName,
} from '../../rules/index.ts';
import { type ChainCounters, type GenerationDocument, type PlacedSet, ruleCounters } from './document.ts';
import type { LiveGeneration } from './generation.ts';
import { withPolicyLock } from './place.ts';
import { definitionOf } from './sets.ts';
import { PolicyStore } from './store.ts';

/** One policy in one namespace. */
export interface LivePlace {
  readonly policy: string;
  readonly cookie: bigint;
}

export interface ChainCounts {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  /** In the order of the rules. */
  readonly rules: readonly Counters[];
  /** Of built-in chains. */
  readonly policy?: Counters;
}

/** The generation that runs now. */
interface Running {
  /** Names the rules: no other rules have the same, for no pin gets an inode number again. */
  readonly mark: string;
  readonly document: GenerationDocument;
  readonly generation: LiveGeneration;
}

export class WatchedPolicy {
  readonly #place: LivePlace;
  #open: { readonly store: PolicyStore; readonly directory: number } | undefined;
  #running: Running | undefined;

  constructor(place: LivePlace) {
    requireKernel();
    this.#place = place;
  }

  /** Equal while the rules are the same; empty when the policy is not live in the namespace. */
  get mark(): string {
    return this.#now()?.mark ?? '';
  }

  /** The rules that run, without counters. */
  rulesets(): readonly Ruleset[] {
    return (this.#now()?.document.rulesets ?? []).map(
      ({ family, text }) => parseRuleset(text, { file: 'live rules', family }).ruleset,
    );
  }

  /** The sets of the policy, by the numbers of their records. */
  readonly sets: AskableSets = {
    numberOf: (name) => this.#sets().find((set) => set.name === name)?.slot,
    nameOf: (number) => this.#sets().find(({ slot }) => slot === number)?.name,
    familyOf: (name) => {
      const found = this.#sets().find((set) => set.name === name);
      return found && definitionOf(found).family;
    },
  };

  #sets(): readonly PlacedSet[] {
    return this.#now()?.document.sets ?? [];
  }

  /** Counters now of the chains of a table. */
  counts(family: Family, table: TableName): readonly ChainCounts[] {
    const running = this.#now();
    if (running === undefined) return [];
    const { document, generation } = running;
    return document.chains
      .filter((one) => one.family === family && one.table === table)
      .map((place) => ({
        family,
        table,
        chain: place.chain,
        rules: ruleCounters(place).map((counter) => generation.counter(counter)),
        ...(place.policy === undefined ? {} : { policy: generation.counter(place.policy) }),
      }));
  }

  /** Adds to counters, which may go on counting meanwhile; chains that are not there are passed over. */
  async add(added: readonly ChainCounts[]): Promise<void> {
    await withPolicyLock(() => {
      const running = this.#now();
      if (running === undefined) return;
      const { document, generation } = running;
      const places = new Map<string, ChainCounters>();
      for (const place of document.chains) places.set(`${place.family} ${place.table} ${place.chain}`, place);
      for (const { family, table, chain, rules, policy } of added) {
        const place = places.get(`${family} ${table} ${chain}`);
        if (place === undefined) continue;
        for (const [index, counter] of ruleCounters(place).entries())
          if (index < rules.length) generation.addCounter(counter, rules[index]!);
        if (policy !== undefined && place.policy !== undefined) generation.addCounter(place.policy, policy);
      }
    });
  }

  close(): void {
    this.#open?.store.close();
    this.#open = undefined;
    this.#running = undefined;
  }

  #now(): Running | undefined {
    const known = this.#running;
    const mark = this.#look();
    if (mark !== undefined && mark === known?.mark) return known;
    // A store remembers the documents it has read: another generation is looked at with a new one.
    this.close();
    const bpffs = findBpffs();
    const store = bpffs === undefined ? undefined : PolicyStore.open(bpffs, this.#place.policy);
    if (store === undefined) return undefined;
    const directory = inodeOf(store.place.directory);
    if (directory !== undefined) this.#open = { store, directory };
    const now = this.#look();
    const root = store.records.find(this.#place.cookie)?.running;
    const document = root === undefined ? undefined : store.documentAt(root);
    if (now === undefined || root === undefined || document === undefined) {
      this.close();
      return undefined;
    }
    this.#running = { mark: now, document, generation: store.generation(root) };
    return this.#running;
  }

  /** The mark of what runs now, by the store that is open; `undefined` when that is of no use any more. */
  #look(): string | undefined {
    if (this.#open === undefined) return undefined;
    const { store, directory } = this.#open;
    const root = store.records.find(this.#place.cookie)?.running;
    if (root === undefined || root === 0) return undefined;
    const { number } = store.generation(root);
    const inode = inodeOf(store.place.generation(number));
    if (inode === undefined || inodeOf(store.place.directory) !== directory) return undefined;
    return `${directory} ${number} ${inode}`;
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
