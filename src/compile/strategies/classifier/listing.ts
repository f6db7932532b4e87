/** Tables as they lie in an arena, as text: what attach points run, chains with their parts, and the rule above each record. */
import { COUNTER_SIZE } from '../../arena/layout.ts';
import { type AttachPoint, entryIndex, formatAttachPoint } from '../../attach.ts';
import {
  Chain,
  ChainKind,
  Entry,
  Need,
  PolicyVerdict,
  RULE_RECORD_SHIFT,
  RuleAction,
  RuleRecord,
  TablesHeader,
  Way,
} from './layout.ts';
import { type ArenaBytes, type LiveEntry, type LivePart, LiveTables } from './live.ts';

/** What those who loaded the tables know of them. */
export interface TableNames {
  readonly points: readonly AttachPoint[];
  /** "ipv4 filter INPUT" of the chain that has a number. */
  readonly chain: (number: number) => string | undefined;
  /** Rule `index` of a chain, from 0, as iptables-save prints it. */
  readonly rule: (number: number, index: number) => string | undefined;
}

/** One line each, without line ends. Empty where the generation at `root` has no tables. */
export function listTables(memory: ArenaBytes, root: number, names: TableNames): string[] {
  const tables = new LiveTables(memory, root);
  return tables.header === 0 ? [] : new TablesListing(tables, names).lines();
}

const POLICIES = new Map<number, string>([
  [PolicyVerdict.accept, 'ACCEPT'],
  [PolicyVerdict.drop, 'DROP'],
]);

class TablesListing {
  readonly #tables: LiveTables;
  readonly #names: TableNames;
  readonly #points: ReadonlyMap<number, AttachPoint>;

  constructor(tables: LiveTables, names: TableNames) {
    this.#tables = tables;
    this.#names = names;
    this.#points = new Map(names.points.map((point) => [entryIndex(point), point]));
  }

  lines(): string[] {
    const { header, chainCount } = this.#tables;
    const version = this.#tables.u32(header + TablesHeader.version);
    // Number 0 is none.
    const lines = [`tables at ${hex(header)}: version ${version}, ${chainCount - 1} chains`];
    for (const entry of this.#tables.entries()) lines.push(this.#entry(entry));
    for (let chain = 1; chain < chainCount; chain++) lines.push(...this.#chain(chain));
    return lines;
  }

  #entry(entry: LiveEntry): string {
    const { place, family, pointer } = entry;
    const point = this.#points.get(place);
    const name = point === undefined ? `attach point ${place}` : formatAttachPoint(point);
    const bits = this.#tables.u32(pointer + Entry.needs);
    const needs = Object.keys(Need).filter((need) => (bits & Need[need as keyof typeof Need]) !== 0);
    const chains = this.#tables.roots(entry).map((number) => this.#name(number));
    const finds = needs.length === 0 ? '' : `; finds out ${needs.join(', ')}`;
    return `${name}, ${family} packets at ${hex(pointer)}: ${chains.join(', ')}${finds}`;
  }

  #chain(number: number): string[] {
    const parts = this.#tables.parts(number);
    const [first] = parts;
    // A chain that an edit has taken away leaves its number.
    if (first === undefined) return [];
    const verdict = POLICIES.get(this.#tables.u32(first.pointer + Chain.policy));
    const counter = this.#tables.u32(first.pointer + Chain.policyCounter) / COUNTER_SIZE;
    const policy = verdict === undefined ? '' : `, policy ${verdict}, counter ${counter}`;
    const lines = [`chain ${number}: ${this.#name(number)}${policy}`];
    let index = 0;
    for (const part of parts) {
      lines.push(`  ${this.#part(part)}`);
      for (let place = part.first; place < part.count; place++, index++) {
        lines.push(`; ${index + 1}: ${this.#names.rule(number, index) ?? '(unknown rule)'}`);
        lines.push(`    ${this.#record(part.rules + (place << RULE_RECORD_SHIFT))}`);
      }
    }
    return lines;
  }

  #part({ pointer, kind, rules, first, count }: LivePart): string {
    const records = `part at ${hex(pointer)}: records ${first} to ${count} of ${hex(rules)}`;
    if (kind === ChainKind.linear) return `${records}, one after the other`;
    const by = [
      ...this.#trie(pointer, 'source', Chain.source, Chain.sourceBits),
      ...this.#trie(pointer, 'destination', Chain.destination, Chain.destinationBits),
    ];
    for (let at = Chain.services; at < Chain.next; at += 4) {
      const service = this.#tables.u32(pointer + at);
      if (service !== 0) by.push(`service ${hex(service)}`);
    }
    return `${records}, by ${by.join(', ')}`;
  }

  #trie(pointer: number, name: string, at: number, bitsAt: number): string[] {
    const trie = this.#tables.u32(pointer + at);
    return trie === 0 ? [] : [`${name} ${hex(trie)} (${this.#tables.u32(pointer + bitsAt)} bits)`];
  }

  #record(at: number): string {
    const word = (offset: number): number => this.#tables.u32(at + offset);
    const counter = word(RuleRecord.counter) / COUNTER_SIZE;
    const rest = word(RuleRecord.rest);
    const asks = isNode(rest) ? `, asks ${hex(rest)} when found` : '';
    const all = word(RuleRecord.all);
    const each = isNode(all) ? `, all conditions ${hex(all)}` : '';
    const action = this.#action(word(RuleRecord.action), word(RuleRecord.a), word(RuleRecord.b));
    return `${hex(at)}: counter ${counter}, ${action}${asks}${each}`;
  }

  #action(action: number, a: number, b: number): string {
    switch (action) {
      case RuleAction.jump:
        return `jump ${this.#name(a)}`;
      case RuleAction.goto:
        return `goto ${this.#name(a)}`;
      case RuleAction.reject:
        return `reject ${a - 1}`;
      case RuleAction.log:
        return `log point ${a}`;
      case RuleAction.mark:
        return `mark & ~${hex(b)} ^ ${hex(a)}`;
      default:
        return ACTIONS.get(action) ?? `action ${action}`;
    }
  }

  #name(number: number): string {
    return this.#names.chain(number) ?? `chain ${number}`;
  }
}

const ACTIONS = new Map<number, string>(Object.entries(RuleAction).map(([name, number]) => [number, name]));

/** The numbers below are ways out: there is nothing to ask. */
function isNode(pointer: number): boolean {
  return pointer > Way.hotdrop;
}

function hex(number: number): string {
  return `0x${number.toString(16)}`;
}
