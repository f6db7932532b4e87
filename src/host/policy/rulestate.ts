/** The rules of a generation as text lines, with whose counter is whose: a document taken apart, so that edits change it in place. */
import { keyOf, type LogPoint } from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';
import { builtinChains, type TableName } from '../../rules/index.ts';
import { unionOfAids } from './aids.ts';
import { type ChainCounters, type GenerationDocument, type KernelAids, ruleCounters } from './document.ts';
import { afterRename, type ChainNote, type ChainRename, type EditNote, type NotedPiece } from './note.ts';
import { type ChainLines, ruleLines } from './rulelines.ts';

export interface ChainState {
  readonly family: Family;
  readonly table: TableName;
  chain: string;
  /** ACCEPT or DROP; "-" of other chains. */
  policy: string;
  lines: string[];
  /** Of the rules, in their order. */
  counters: number[];
  policyCounter: number | undefined;
  /** In the tables; 0: no table has it. */
  number: number;
  /** Some attach point runs it as code. */
  readonly coded: boolean;
}

export class RuleState {
  /** By family, table and name with blanks between. */
  readonly chains: Map<string, ChainState> = new Map();
  readonly logs: LogPoint[];
  aids: KernelAids;
  appliedMs: number;
  /** Numbers of the generations, by netns cookie. */
  readonly members: Map<string, number>;

  constructor(document: GenerationDocument) {
    const lines = ruleLines(document.rulesets);
    const coded = new Set(document.coded);
    const known = new Map(document.chains.map((place) => [placeKey(place), place]));
    for (const [key, { family, table, chain, policy, lines: own }] of lines) {
      const place = known.get(key);
      this.chains.set(key, {
        family,
        table: table as TableName,
        chain,
        policy,
        lines: own,
        counters: place === undefined ? [] : ruleCounters(place),
        policyCounter: place?.policy,
        number: place?.number ?? 0,
        coded: coded.has(key),
      });
    }
    this.logs = [...document.logs];
    this.aids = document.aids;
    this.appliedMs = document.appliedMs;
    this.members = new Map(document.members.map(({ cookie, number }) => [cookie, number]));
  }

  apply(note: EditNote): void {
    for (const rename of note.renamed ?? []) this.#rename(rename);
    for (const key of note.removed ?? []) this.chains.delete(key);
    for (const chain of note.chains) this.#change(chain);
    for (const [key, number] of note.numbers ?? []) {
      const chain = this.chains.get(key);
      if (chain !== undefined) chain.number = number;
    }
    this.logs.push(...(note.logs ?? []));
    if (note.aids !== undefined) this.aids = unionOfAids([this.aids, { ...this.aids, ...note.aids }]);
    this.appliedMs = note.appliedMs;
    for (const [cookie, number] of note.members) this.members.set(cookie, number);
  }

  #rename(rename: ChainRename): void {
    const { family, table, chain: name, to } = rename;
    const chain = this.chains.get(keyOf(family, table, name));
    if (chain === undefined) return;
    this.chains.delete(keyOf(family, table, name));
    this.chains.set(keyOf(family, table, to), chain);
    chain.chain = to;
    for (const other of this.chains.values()) {
      if (other.family === family && other.table === table)
        other.lines = other.lines.map((line) => afterRename(line, rename));
    }
    for (const [index, point] of this.logs.entries()) {
      const { rule } = point;
      if (rule.family === family && rule.table === table && rule.chain === name)
        this.logs[index] = { ...point, rule: { ...rule, chain: to } };
    }
  }

  #change({ family, table, chain: name, pieces, policy }: ChainNote): void {
    const key = keyOf(family, table, name);
    const known = this.chains.get(key);
    const chain: ChainState = known ?? {
      family,
      table: table as TableName,
      chain: name,
      policy: '-',
      lines: [],
      counters: [],
      policyCounter: undefined,
      number: 0,
      coded: false,
    };
    if (known === undefined) this.chains.set(key, chain);
    if (policy !== undefined) {
      chain.policy = policy.verdict;
      chain.policyCounter = policy.counter;
    }
    this.#moveLogs(key, pieces);
    chain.lines = rearranged(chain.lines, pieces, ([line]) => line);
    chain.counters = rearranged(chain.counters, pieces, ([, counter]) => counter);
  }

  /** A LOG rule's number is the place that it has now. */
  #moveLogs(key: string, pieces: ChainNote['pieces']): void {
    for (const [index, point] of this.logs.entries()) {
      const { rule } = point;
      if (keyOf(rule.family, rule.table, rule.chain) !== key) continue;
      let start = 0;
      for (const [from, to] of pieces) {
        if (typeof from === 'string') start += 1;
        else if (rule.rule > from && rule.rule <= to) {
          this.logs[index] = { ...point, rule: { ...rule, rule: start + rule.rule - from } };
          break;
        } else start += to - from;
      }
    }
  }

  /** The document of a generation with these rules, which was made of the loaded one by edits. */
  document(loaded: GenerationDocument): GenerationDocument {
    return {
      ...loaded,
      appliedMs: this.appliedMs,
      rulesets: this.#texts(loaded),
      loaded: loaded.rulesets,
      chains: [...this.chains.values()].map(
        ({ family, table, chain, number, counters, policyCounter }): ChainCounters => ({
          family,
          table,
          chain,
          number,
          rules: runsOf(counters),
          ...(policyCounter === undefined ? {} : { policy: policyCounter }),
        }),
      ),
      counters: this.counters(loaded),
      logs: this.logs,
      aids: this.aids,
      members: loaded.members.map((member) => ({
        ...member,
        number: this.members.get(member.cookie) ?? member.number,
      })),
    };
  }

  /** One more than the last counter that is in use, or was when the rules were loaded. */
  counters(loaded: GenerationDocument): number {
    let most = loaded.counters;
    for (const { counters, policyCounter = 0 } of this.chains.values()) {
      most = Math.max(most, policyCounter + 1);
      for (const counter of counters) if (counter >= most) most = counter + 1;
    }
    return most;
  }

  /** As printRuleset prints them. */
  #texts(loaded: GenerationDocument): GenerationDocument['rulesets'] {
    return loaded.rulesets.map(({ family, text }) => {
      const tables = text.split('\n').filter((line) => line.startsWith('*'));
      return { family, text: tables.map((line) => this.#table(family, line.slice(1))).join('') };
    });
  }

  #table(family: Family, table: string): string {
    const builtin = builtinChains(table as TableName);
    const rank = ({ chain }: ChainLines | ChainState): number => (builtin.indexOf(chain) + 1 || 99) - 1;
    const chains = [...this.chains.values()]
      .filter((chain) => chain.family === family && chain.table === table)
      .sort((a, b) => rank(a) - rank(b) || (a.chain < b.chain ? -1 : 1));
    const heads = chains.map(({ chain, policy }) => `:${chain} ${policy} [0:0]`);
    return [`*${table}`, ...heads, ...chains.flatMap(({ lines }) => lines), 'COMMIT', ''].join('\n');
  }
}

/** The list as the pieces have it. The list itself, changed, where what stays does so in its order: it may be long. */
function rearranged<T>(
  list: T[],
  pieces: ChainNote['pieces'],
  of: (fresh: readonly [line: string, counter: number]) => T,
): T[] {
  if (!inOrder(pieces)) {
    const whole: T[] = [];
    for (const piece of pieces) {
      if (isFresh(piece)) whole.push(of(piece));
      else for (let index = piece[0]; index < piece[1]; index++) whole.push(list[index]!);
    }
    return whole;
  }
  let end = list.length;
  let pending: T[] = [];
  const put = (from: number): void => {
    if (end > from || pending.length > 0) list.splice(from, end - from, ...pending);
    pending = [];
  };
  for (const piece of [...pieces].reverse()) {
    if (isFresh(piece)) pending.unshift(of(piece));
    else {
      put(piece[1]);
      end = piece[0];
    }
  }
  put(0);
  return list;
}

function isFresh(piece: NotedPiece): piece is readonly [line: string, counter: number] {
  return typeof piece[0] === 'string';
}

function inOrder(pieces: ChainNote['pieces']): boolean {
  let last = 0;
  for (const piece of pieces) {
    if (isFresh(piece)) continue;
    if (piece[0] < last) return false;
    last = piece[1];
  }
  // Arguments of a call are not to be many.
  return pieces.length < 1000;
}

function placeKey({ family, table, chain }: ChainCounters): string {
  return keyOf(family, table, chain);
}

function runsOf(counters: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const counter of counters) {
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === counter) last[1] += 1;
    else runs.push([counter, 1]);
  }
  return runs;
}
