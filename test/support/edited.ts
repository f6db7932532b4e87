/** Live tables that rules change in, as a policy's process changes them: each change an edit in place where that is possible. */
import {
  type CallsCache,
  type CompiledPolicy,
  compilePolicy,
  Generation,
  lowerRule,
} from '../../src/compile/index.ts';
import { chainCounters } from '../../src/host/policy/apply.ts';
import { diffChains } from '../../src/host/policy/chaindiff.ts';
import type { GenerationDocument } from '../../src/host/policy/document.ts';
import { LoadWhole } from '../../src/host/policy/editplan.ts';
import { type ChainRename, decodeNote, encodeNote } from '../../src/host/policy/note.ts';
import { ruleLines } from '../../src/host/policy/rulelines.ts';
import { RuleState } from '../../src/host/policy/rulestate.ts';
import { writeEdit } from '../../src/host/policy/tableedit.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import type { Hook } from '../../src/ir/index.ts';
import {
  parseRuleset,
  parseSets,
  placesInOrder,
  printRuleset,
  type Ruleset,
  type SetContents,
} from '../../src/rules/index.ts';
import type { Clock } from '../../src/vm/index.ts';

export type TableName = 'filter' | 'mangle';
/** Hooks of the built-in chains that have rules, with the devices of a packet there. */
export const BUILT_IN: Readonly<
  Record<'INPUT' | 'FORWARD', { readonly hook: Hook; readonly outDevice: string }>
> = {
  INPUT: { hook: 1, outDevice: '' },
  FORWARD: { hook: 2, outDevice: 'eth1' },
};
/** How many user chains a model may have. */
export const USER = 5;

export const SETS: readonly SetContents[] = parseSets(
  'create s hash:ip timeout 0\nadd s 192.1.1.1\nadd s 192.2.2.2\ncreate few hash:ip maxelem 1\ncreate l list:set\nadd l few\nadd l s\n',
  { file: 'sets' },
).sets;
const PLACES = placesInOrder(SETS);

/** Rules by chain; user chains by number, where they are there, and their names. */
export interface Model {
  readonly table: TableName;
  readonly builtIn: Record<'INPUT' | 'FORWARD', { rules: string[]; policy: 'ACCEPT' | 'DROP' }>;
  readonly user: (string[] | undefined)[];
  readonly names: string[];
}

function textOf({ table, builtIn, user, names }: Model): string {
  const line = (text: string): string => text.replace(/@(\d)/, (_, number) => names[Number(number)]!);
  const chains = [
    ...Object.entries(builtIn),
    ...user.flatMap((rules, number) =>
      rules === undefined ? [] : [[names[number]!, { rules, policy: '-' }] as const],
    ),
  ];
  return [
    `*${table}`,
    ...chains.map(([name, { policy }]) => `:${name} ${policy} [0:0]`),
    ...chains.flatMap(([name, { rules }]) => rules.map((rule) => `-A ${name} ${line(rule)}`)),
    'COMMIT',
    '',
  ].join('\n');
}

export function parse(model: Model): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(textOf(model), { file: 'edited', family: 'ipv4' });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`${error.message}\n${textOf(model)}`);
  return ruleset;
}

export function compile(ruleset: Ruleset): CompiledPolicy {
  return compilePolicy([ruleset], {
    hooks: ['netfilter'],
    hz: MACHINE_HZ,
    strategy: 'classifier',
    sets: PLACES,
  });
}

export const STILL: Clock = { monotonicNs: () => 0n };

/** Tables with room for edits. */
export class Edited {
  readonly machine: PolicyMachine;
  readonly state: RuleState;
  readonly #loaded: GenerationDocument;
  readonly #cache: CallsCache = new Map();
  #number = 1;

  constructor(ruleset: Ruleset) {
    const policy = compile(ruleset);
    const room = { bytes: 2 << 20, counters: 600, state: 64 };
    this.machine = new PolicyMachine(policy, { room, sets: SETS, clock: STILL });
    this.#loaded = {
      rulesets: [{ family: 'ipv4', text: printRuleset(ruleset) }],
      chains: chainCounters(policy),
      coded: policy.coded,
      logs: policy.logs,
      counters: policy.counters,
      aids: { conntrack: false, chains: [], marks: policy.marks, rejects: policy.rejects },
      members: [{ cookie: '1', number: 1, links: [] }],
      appliedMs: 0,
    } as unknown as GenerationDocument;
    this.state = new RuleState(this.#loaded);
  }

  /** The reason when the change is not made in place. */
  change(wanted: Ruleset, renamed: readonly ChainRename[]): string | undefined {
    const { root, arena, policy } = this.machine;
    const before = new RuleState(this.#document);
    before.apply({ appliedMs: 0, renamed, chains: [], members: [] });
    const lines = ruleLines([{ family: 'ipv4', text: printRuleset(wanted) }]);
    const differences = diffChains(before.chains, lines);
    if (typeof differences === 'string') return differences;
    const table = wanted.tables[0]!;
    this.#number += 1;
    try {
      const { edits, note } = writeEdit({
        arena,
        roots: [{ cookie: 1n, root, number: this.#number }],
        points: policy.programs.map(({ point }) => point),
        hz: MACHINE_HZ,
        state: this.state,
        plan: {
          renamed,
          ...differences,
          rule: (_family, _table, name, index) => {
            const chain = table.chains.find((one) => one.name === name)!;
            return lowerRule(table, chain, index, 'ipv4', PLACES)!;
          },
          asksConntrack: false,
        },
        cache: this.#cache,
      });
      const encoded = encodeNote(note);
      this.#checkHeader(edits[0]!.root, encoded);
      this.machine.commit(edits[0]!.root);
      this.state.apply(decodeNote(encoded));
      return undefined;
    } catch (error) {
      if (!(error instanceof LoadWhole)) throw error;
      return error.message;
    }
  }

  /** What other processes will read of the edit. @throws {Error} when that is not what it is */
  #checkHeader(root: number, note: Uint8Array): void {
    const { bytes, base } = this.machine.arena;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const word = (place: number): number => view.getUint32(root - base + place, true);
    const at = word(Generation.note) - base;
    const kept = bytes.subarray(at, at + word(Generation.noteSize));
    const right =
      view.getBigUint64(root - base + Generation.number, true) === BigInt(this.#number) &&
      word(Generation.before) === this.machine.root &&
      Buffer.from(note).equals(kept);
    if (!right) throw new Error('the header of an edit says something else');
  }

  get #document(): GenerationDocument {
    return this.state.document(this.#loaded);
  }

  get text(): string {
    return this.#document.rulesets[0]!.text;
  }

  /** Packets and bytes by rule and turn (see {@link turns}), and by policy where a program runs the chain. */
  counts(): Map<string, string> {
    const counted = new Map<string, string>();
    for (const chain of this.state.chains.values()) {
      for (const [index, key] of turns(chain.lines).entries()) {
        const { packets: count, bytes } = this.machine.counter(chain.counters[index]!);
        counted.set(key, `${count}:${bytes}`);
      }
      if (chain.policyCounter === undefined) continue;
      const { packets: count, bytes } = this.machine.counter(chain.policyCounter);
      counted.set(policyKey(chain.chain, chain.policy), `${count}:${bytes}`);
    }
    return counted;
  }
}

/** What a policy's counter belongs to. */
export function policyKey(chain: string, policy: string): string {
  return `-P ${chain} ${policy}`;
}

/** Each line with how many before say the same: what a counter belongs to. */
export function turns(lines: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return lines.map((line) => {
    const turn = seen.get(line) ?? 0;
    seen.set(line, turn + 1);
    return `${line} ${turn}`;
  });
}
