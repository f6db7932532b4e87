/** Writes the chains that runs reach: their rules' records, and what finds the rules that fit a packet. */
import type { Action, IrChain, IrRule, Predicate, ScalarField } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import { COUNTER_SIZE, SYSTEM_COUNTERS } from '../../arena/layout.ts';
import type { HandedActions } from '../../emit/emission.ts';
import type { LogPoints } from '../../emit/logpoint.ts';
import type { StateWords } from '../../emit/state.ts';
import type { RuleTag } from '../../program.ts';
import { planCalls } from '../inline/calls.ts';
import type { ChainRun } from '../inline/chain.ts';
import { type AddressSide, askedOf, type DividedRule, divideRule } from './conditions.ts';
import {
  CHAIN_SERVICES,
  CHAIN_SIZE,
  Chain,
  ChainKind,
  PolicyVerdict,
  RULE_RECORD_SIZE,
  RuleAction,
  RuleRecord,
  Way,
} from './layout.ts';
import { NodeWriter } from './nodes.ts';
import { planServices, type ServicePlan, writeService } from './service.ts';
import { partition } from './sweep.ts';
import { writeTrie } from './trie.ts';
import { VectorStore } from './vectors.ts';
import type { ImageWriter } from './writer.ts';

/** Chains up to this length are walked rule by rule: asking a few conditions costs less than finding vectors. */
export const MAX_LINEAR_RULES = 8;

/** What became of a chain, for `compile --explain`. */
export interface ChainReport {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** Its number in the tables. */
  readonly number: number;
  readonly rules: number;
  readonly form: 'linear' | 'vectors';
  /** Bytes of the chain's own tables: records, conditions, vectors, tries. */
  readonly bytes: number;
  /** Rules with conditions that are asked at the rule's turn. */
  readonly asked: number;
  /** Classes of each service. */
  readonly services: readonly { readonly fields: readonly ScalarField[]; readonly classes: number }[];
  /** Pieces that the rules divide the addresses into; 0 where none asks for them. */
  readonly sources: number;
  readonly destinations: number;
}

/** What chains of all entries share. */
export interface ChainParts {
  readonly state: StateWords;
  readonly logs: LogPoints;
  readonly hz: number;
  /** Notes what the action chain will have to do. */
  readonly handed: HandedActions;
}

/** Numbers of chains in the tables. */
export interface ChainNumbering {
  of(family: Family, table: string, chain: string): number;
}

/** Numbers of the chains of all families, from 1, in the order in which they are asked for. */
export class ChainNumbers implements ChainNumbering {
  readonly #byKey = new Map<string, number>();

  /** One more than the last. */
  get count(): number {
    return this.#byKey.size + 1;
  }

  of(family: Family, table: string, chain: string): number {
    const key = `${family} ${table} ${chain}`;
    const known = this.#byKey.get(key) ?? this.count;
    this.#byKey.set(key, known);
    return known;
  }
}

/** A chain in the tables. */
export interface ChainPlace {
  readonly table: string;
  readonly chain: string;
  readonly number: number;
}

/** The chains of one family. */
export class ChainWriter {
  readonly reports: ChainReport[] = [];
  /** By protocol: see Entry.headerBytes. */
  readonly headerBytes: Uint8Array = new Uint8Array(256);
  readonly #image: ImageWriter;
  readonly #family: Family;
  readonly #parts: ChainParts;
  readonly #nodes: NodeWriter;
  readonly #numbers: ChainNumbering;
  /** Where each chain was written, by number. */
  readonly offsets: Map<number, number> = new Map();

  constructor(image: ImageWriter, family: Family, parts: ChainParts, numbers: ChainNumbering) {
    this.#image = image;
    this.#family = family;
    this.#parts = parts;
    this.#numbers = numbers;
    this.#nodes = new NodeWriter(image, family, parts.state, parts.hz);
  }

  /** Number of the built-in chain, written with all that it calls. */
  write(run: ChainRun): number {
    const { named } = planCalls(run.table.chains, run.chain);
    for (const chain of named) this.#chain(run, chain);
    return this.#numbers.of(this.#family, run.table.table, run.chain);
  }

  /**
   * Writes the record of a rule of which all conditions are asked at its turn, or none when vectors have answered them;
   * `counter` is its number in the generation.
   */
  writeRecord(place: ChainPlace, rule: IrRule, counter: number, at: number, answered: boolean): void {
    this.#record(place, rule, counter, divideRule(rule, this.#family, new Set()), at, true);
    if (answered) this.#image.u32(at + RuleRecord.rest, Way.holds);
    else this.#image.copyWay(at + RuleRecord.rest, at + RuleRecord.all);
  }

  /**
   * Completes the part at `offset` by what finds those of its rules that fit, and tells of each whether nothing is left to
   * ask then; `undefined`: their fields find none.
   */
  writeVectors(offset: number, rules: readonly IrRule[]): readonly boolean[] | undefined {
    const divided = this.#divide(rules);
    if (divided.every(isUnanswered)) return undefined;
    this.#vectors(offset, divided);
    for (const one of divided) this.#noteHeaderBytes(one);
    return divided.map(({ rest }) => rest.length === 0);
  }

  #chain(run: ChainRun, chain: IrChain): void {
    const number = this.#numbers.of(this.#family, run.table.table, chain.name);
    if (this.offsets.has(number)) return;
    const image = this.#image;
    const before = image.size;
    const offset = image.reserve(CHAIN_SIZE, 64);
    this.offsets.set(number, offset);
    const { rules } = chain;
    const divided = this.#divide(rules);
    const linear = rules.length <= MAX_LINEAR_RULES || divided.every(isUnanswered);
    const records = image.reserve(rules.length * RULE_RECORD_SIZE, RULE_RECORD_SIZE);
    const place = { table: run.table.table, chain: chain.name, number };
    for (const [index, rule] of rules.entries()) {
      const counter = SYSTEM_COUNTERS + run.firstCounter + rule.counter;
      this.#record(place, rule, counter, divided[index]!, records + index * RULE_RECORD_SIZE, linear);
    }
    const report = linear ? {} : this.#vectors(offset, divided);
    image.u32(offset + Chain.kind, linear ? ChainKind.linear : ChainKind.vectors);
    image.u32(offset + Chain.count, rules.length);
    image.pointer(offset + Chain.rules, records);
    if (chain.policy !== undefined) {
      const { verdict, counter } = chain.policy;
      image.u32(offset + Chain.policy, PolicyVerdict[verdict]);
      image.u32(offset + Chain.policyCounter, (SYSTEM_COUNTERS + run.firstCounter + counter) * COUNTER_SIZE);
    }
    this.reports.push({
      family: this.#family,
      table: run.table.table,
      chain: chain.name,
      number,
      rules: rules.length,
      form: linear ? 'linear' : 'vectors',
      bytes: image.size - before,
      asked: linear ? rules.length : divided.filter(({ rest }) => rest.length > 0).length,
      services: [],
      sources: 0,
      destinations: 0,
      ...report,
    });
  }

  /** Fields that do not fit a service are asked at the rule's turn. */
  #divide(rules: readonly IrRule[]): DividedRule[] {
    const without = new Set<ScalarField>();
    if (rules.length <= MAX_LINEAR_RULES) return rules.map((rule) => divideRule(rule, this.#family, without));
    for (;;) {
      const divided = rules.map((rule) => divideRule(rule, this.#family, without));
      this.#services = planServices(divided.map(({ scalars }) => scalars));
      if (this.#services.left.length === 0) return divided;
      for (const field of this.#services.left) without.add(field);
    }
  }
  #services: ServicePlan | undefined;

  #vectors(offset: number, divided: readonly DividedRule[]): Partial<ChainReport> {
    const image = this.#image;
    const store = new VectorStore(divided.length);
    const trie = (side: AddressSide, root: number, bits: number): number => {
      const wanted = divided.map(({ addresses }) => addresses.get(side));
      if (wanted.every((intervals) => intervals === undefined)) return 0;
      const pieces = partition(store, wanted, this.#family === 'ipv4' ? 1 : 4);
      const written = writeTrie(image, store, pieces);
      image.pointer(offset + root, written.offset);
      image.u32(offset + bits, written.rootBits);
      return pieces.vectors.length;
    };
    const sources = trie('ip.source', Chain.source, Chain.sourceBits);
    const destinations = trie('ip.destination', Chain.destination, Chain.destinationBits);
    const plan = this.#services!;
    for (let index = 0; index < CHAIN_SERVICES; index++) {
      const service = plan.services[index];
      if (service === undefined) continue;
      image.pointer(offset + Chain.services + index * 4, writeService(image, store, plan, service));
    }
    const parts = [sources, destinations].filter((pieces) => pieces > 0).length + plan.services.length;
    image.u32(offset + Chain.simple, parts === 1 ? 1 : 0);
    const services = plan.services.map(({ fields, classes }) => ({
      fields: fields.map(({ field }) => field),
      classes: classes.length,
    }));
    return { sources, destinations, services };
  }

  #record(
    { table, chain, number }: ChainPlace,
    rule: IrRule,
    counter: number,
    divided: DividedRule,
    at: number,
    linear: boolean,
  ): void {
    const image = this.#image;
    const tag: RuleTag = { family: this.#family, table, chain, rule: rule.source.rule };
    let keys: Map<Predicate, string> | undefined;
    const keyOf = (predicate: Predicate): string => {
      keys ??= stateKeys(rule.predicates, `${tag.family} ${tag.table} ${tag.chain} ${tag.rule}`);
      return keys.get(predicate)!;
    };
    image.u32(at + RuleRecord.counter, counter * COUNTER_SIZE);
    this.#way(at + RuleRecord.all, this.#nodes.conjunction(askedOf(rule), keyOf));
    if (!linear) this.#way(at + RuleRecord.rest, this.#nodes.conjunction(divided.rest, keyOf));
    this.#noteHeaderBytes(divided);
    this.#action(rule.action, tag, number, at);
  }

  #way(at: number, node: number): void {
    if (node <= 2) this.#image.u32(at, node);
    else this.#image.pointer(at, node);
  }

  #noteHeaderBytes({ headerBytes, scalars }: DividedRule): void {
    if (headerBytes === 0) return;
    const bytes = this.headerBytes;
    for (const { low, high } of scalars.get('ip.protocol') ?? [{ low: [0], high: [255] }]) {
      for (let protocol = low[0]!; protocol <= Math.min(255, high[0]!); protocol++) {
        bytes[protocol] = Math.max(bytes[protocol]!, headerBytes);
      }
    }
  }

  #action(action: Action, tag: RuleTag, own: number, at: number): void {
    const image = this.#image;
    // What is done to sets stands among the conditions.
    const kind = action.kind === 'set' ? 'continue' : action.kind;
    image.u32(at + RuleRecord.action, RuleAction[kind]);
    switch (action.kind) {
      case 'jump':
      case 'goto':
        image.u32(at + RuleRecord.a, this.#numbers.of(this.#family, tag.table, action.chain));
        image.u32(at + RuleRecord.b, own);
        break;
      case 'reject':
        this.#parts.handed.reject(this.#family, action.with);
        image.u32(at + RuleRecord.a, action.with + 1);
        break;
      case 'log': {
        const { level, flags, prefix } = action;
        image.u32(at + RuleRecord.a, this.#parts.logs.number({ level, flags, prefix, rule: tag }));
        break;
      }
      case 'mark':
        image.u32(at + RuleRecord.a, action.value);
        image.u32(at + RuleRecord.b, action.mask);
        this.#parts.handed.mark(action);
        break;
      default:
    }
  }
}

function isUnanswered({ addresses, scalars }: DividedRule): boolean {
  return addresses.size === 0 && scalars.size === 0;
}

/** The same keys as in code: a rule's place, and the predicate's place in it. */
function stateKeys(predicates: readonly Predicate[], prefix: string): Map<Predicate, string> {
  const keys = new Map<Predicate, string>();
  for (const [index, predicate] of predicates.entries()) {
    const key = `${prefix} ${index}`;
    keys.set(predicate, key);
    visit(predicate, key);
  }
  return keys;

  function visit(predicate: Predicate, key: string): void {
    const parts =
      predicate.kind === 'all' || predicate.kind === 'any'
        ? predicate.of
        : predicate.kind === 'not'
          ? [predicate.of]
          : [];
    for (const [index, part] of parts.entries()) {
      keys.set(part, `${key}.${index}`);
      visit(part, `${key}.${index}`);
    }
  }
}
