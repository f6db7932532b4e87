/**
 * Generated cases for the user-space machine: a ruleset, a hook, and packets with what surrounds them; what the evaluator says
 * of them, and whether the compiled programs say the same. Clock and chance are injected, the same for both.
 */
import fc from 'fast-check';
import {
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  type StrategyName,
  SystemCounter,
  type TableGroup,
} from '../../src/compile/index.ts';
import type { MachinePacket } from '../../src/host/replay/machine.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import { Conntrack } from '../../src/netstack/index.ts';
import {
  createHost,
  formatElement,
  type PathObserver,
  parseRuleset,
  parseSets,
  placesInOrder,
  plainSets,
  type Ruleset,
  type SetContents,
  type SetElement,
} from '../../src/rules/index.ts';
import { worldAddressTypes } from './addresstypes.ts';
import { type Counts, evaluatorCounts, type Judged, judge, onlyTable, programCounts } from './compare.ts';
import { isDemanding } from './demanding.ts';
import { conversation } from './generate/conversations.ts';
import { packetsFor } from './generate/packets.ts';
import { generatedRuleset } from './generate/rulesets.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import { worldRouting } from './generate/world.ts';
import { expectedLogs, logDifference } from './log-records.ts';
import { MACHINE_HZ, MachinePolicy } from './machine-policy.ts';
import { setFault } from './set-soundness.ts';
import { xorshift } from './xorshift.ts';

/** What no program does, refused at compile time and tested there. */
const REFUSED =
  /--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;
const GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];
const HOOKS: readonly Hook[] = [0, 1, 2, 3, 4];
/** What needs conntrack in the namespace. */
const STATEFUL = /-m (conntrack|state|connmark) /;
/** Of every device of the world. */
export const DEVICE_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 1, 0x30);
const START_MS = 1_000_000;
/** Of the draws that rules make, the same for both. */
export const CASE_SEED = 7;

export interface CasePacket {
  readonly bytes: Uint8Array;
  readonly inDevice: string;
  readonly outDevice: string;
  readonly mark: number;
  readonly packetType: number;
  /** 14 bytes; absent where there is no link header. */
  readonly ethernet?: Uint8Array | undefined;
  /** Time that passes before it. */
  readonly waitMs: number;
  /** Bytes that lie together in the kernel's memory; all when absent. */
  readonly linearBytes?: number | undefined;
}

export interface MachineCase {
  readonly family: Family;
  readonly group: TableGroup;
  readonly hook: Hook;
  readonly text: string;
  /** IP sets that rules name, as ipset-restore reads them. */
  readonly sets?: string;
  readonly packets: readonly CasePacket[];
}

/** The same ruleset and packets at every hook of every table group. */
export function machineCases(family: Family, packets: number): fc.Arbitrary<readonly MachineCase[]> {
  return fc
    .boolean()
    .chain((stateful) => generatedRuleset({ family, stateful, maximumRules: 6 }))
    .chain((generated) =>
      fc.record({
        family: fc.constant(family),
        text: fc.constant(compilable(generated.text)),
        packets: fc
          .tuple(
            fc.array(packetsFor(generated, { fragments: !generated.stateful }), {
              minLength: packets,
              maxLength: packets,
            }),
            // State comes of packets that belong together.
            generated.stateful ? conversation(family) : fc.constant([]),
          )
          .chain(([shapes, talk]) =>
            fc.tuple(...[...talk, ...shapes].slice(0, packets).map((shape) => casePacket(shape))),
          ),
      }),
    )
    .map((given) => GROUPS.flatMap((group) => HOOKS.map((hook) => ({ ...given, group, hook }))));
}

/** The rules without those that no program does. */
export function compilable(text: string): string {
  const lines = text.split('\n');
  return lines.filter((line) => !REFUSED.test(line)).join('\n');
}

function casePacket(shape: Shape): fc.Arbitrary<CasePacket> {
  const bytes = buildPacket(shape);
  return fc.record({
    bytes: fc.constant(bytes),
    inDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
    outDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
    mark: fc.constantFrom(0, 1, 2, 0xffffffff),
    packetType: fc.constantFrom(0, 1, 2),
    ethernet: fc.constantFrom(ethernetOf(shape), ethernetOf(shape), undefined),
    waitMs: fc.constantFrom(0, 0, 4, 1000, 90_000),
    linearBytes: fc.constantFrom(undefined, undefined, 0, 20, 41),
  });
}

/** The Ethernet header that the shape asks for, to the device's own address unless it says otherwise. */
export function ethernetOf({ family, sourceMac, destinationMac }: Shape): Uint8Array {
  const header = new Uint8Array(14);
  header.set(destinationMac ?? DEVICE_MAC, 0);
  header.set(sourceMac, 6);
  header.set(family === 'ipv4' ? [0x08, 0x00] : [0x86, 0xdd], 12);
  return header;
}

type Connection = MachinePacket['conntrack'];

/** A case and what the evaluator says of it. */
export interface JudgedCase {
  readonly given: MachineCase;
  readonly ruleset: Ruleset;
  /** By packet; `undefined` where the stack decides before any rule. */
  readonly expected: readonly (Judged | undefined)[];
  /** What conntrack says of each packet; empty without conntrack. */
  readonly connections: readonly Connection[];
  readonly counts: Counts;
  /** The IP sets as they are before the first packet. */
  readonly sets: readonly SetContents[];
  /** What is in each of them in the end, see {@link contentsOf}. */
  readonly contents: readonly string[];
  /** True when rules about state, devices, fragments or chains of the user's own are among them. */
  readonly demanding: boolean;
}

/** The rules that the case is about; `undefined` when the table has no chain at the hook. */
export function rulesetOf({ family, group, hook, text }: MachineCase): Ruleset | undefined {
  const { ruleset: whole, diagnostics } = parseRuleset(text, { file: 'generated', family });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`generated ruleset: ${error.message}\n${text}`);
  const ruleset = onlyChain(onlyTable(whole, group), HOOK_CHAINS[hook]!);
  const known = ruleset.tables[0]?.chains.some(({ name }) => name === HOOK_CHAINS[hook]);
  return known === true ? ruleset : undefined;
}

/** `undefined` when the table has no chain at the hook. */
export function judgeCase(given: MachineCase): JudgedCase | undefined {
  const { family, hook } = given;
  const ruleset = rulesetOf(given);
  if (ruleset === undefined) return undefined;
  const clock = { ms: START_MS };
  const nowMs = (): number => clock.ms;
  const conntrack = STATEFUL.test(given.text) ? new Conntrack({ clock: { nowMs } }) : undefined;
  const sets = setsOf(given);
  const plain = plainSets(sets);
  const host = createHost({
    ruleset,
    routing: worldRouting(family),
    nowMs,
    random32: xorshift(CASE_SEED),
    sets: plain,
    ...(conntrack === undefined ? {} : { conntrack }),
  });
  const connections: Connection[] = [];
  const expected = given.packets.map((packet, index) => {
    clock.ms += packet.waitMs;
    // Sets that no rule looks at grow old, too.
    for (const set of plain.values()) set.begin(clock.ms);
    // Connections have marks as if others had set them.
    for (const entry of conntrack?.entries() ?? []) entry.mark = entry.original.sourcePort;
    // What it says changes with the packets that follow.
    const station: PathObserver['station'] = (at) => {
      if (at.kind !== 'conntrack') return;
      const { state, direction, status, mark, expiresSec, original, reply } = at.view;
      connections[index] = { state, direction, status, mark, expiresSec, original, reply };
    };
    return judge(host, ruleset, { ...inputOf(packet, hook), hook }, { station });
  });
  return {
    given,
    ruleset,
    expected,
    connections,
    counts: evaluatorCounts(host),
    sets,
    contents: sets.map(({ definition: { name } }) => contentsOf(plain.get(name)!, clock.ms)),
    demanding: isDemanding(given.text, ruleset.tables[0]!.name),
  };
}

/** The ruleset with one built-in chain and those of the user's own: the others have programs of their own. */
function onlyChain(ruleset: Ruleset, built: string): Ruleset {
  return {
    ...ruleset,
    tables: ruleset.tables.map((table) => ({
      ...table,
      chains: table.chains.filter(({ name, policy }) => name === built || policy === undefined),
    })),
  };
}

function setsOf({ sets: text }: MachineCase): readonly SetContents[] {
  if (text === undefined) return [];
  const { sets, diagnostics } = parseSets(text, { file: 'sets' });
  if (diagnostics.length > 0) throw new Error(`sets of a case: ${diagnostics[0]!.message}\n${text}`);
  return sets;
}

/** The entries in some order that does not depend on how they are kept. */
function contentsOf(
  set: { readonly definition: SetContents['definition']; elements(nowMs: number): Iterable<SetElement> },
  nowMs: number,
): string {
  return Array.from(set.elements(nowMs), (element) => formatElement(set.definition, element))
    .sort()
    .join('\n');
}

/** The rules of a case as programs. */
export function compileRuleset(
  ruleset: Ruleset,
  given: MachineCase,
  strategy: StrategyName = 'inline',
): CompiledPolicy {
  return compilePolicy([ruleset], {
    hooks: ['netfilter'],
    strategy,
    hz: MACHINE_HZ,
    sets: placesInOrder(setsOf(given)),
  });
}

/** The case's ruleset as programs. */
export function compileCase({ ruleset, given }: JudgedCase, strategy?: StrategyName): CompiledPolicy {
  return compileRuleset(ruleset, given, strategy);
}

/** What the programs compiled from the case's ruleset say otherwise; `undefined` when nothing. */
export function firstDifference(
  judged: JudgedCase,
  compiled: CompiledPolicy = compileCase(judged),
): string | undefined {
  const { family, group, hook, packets } = judged.given;
  const point = { flavour: 'netfilter', family, group, hook } as const;
  const place = entryIndex(point);
  const programs = compiled.programs.filter((program) => entryIndex(program.point) === place);
  const policy = { ...compiled, programs };
  const clock = { ms: START_MS };
  const machine = caseMachine(judged.given, policy, clock, judged.sets);
  let hotdrops = 0n;
  for (const [index, packet] of packets.entries()) {
    clock.ms += packet.waitMs;
    const expected = judged.expected[index];
    if (expected === undefined) continue;
    const conntrack = judged.connections[index];
    const judgment = machine.judge(place, { ...inputOf(packet, hook), conntrack, family, hook });
    if (judgment === undefined) return undefined;
    if (expected.hotdrop) hotdrops += 1n;
    const { verdict, mark, reject } = judgment;
    if (verdict === 'REJECT' && reject !== expected.reject)
      return `REJECT ${reject}; the evaluator says ${expected.reject}`;
    const logs = expectedLogs(expected.logs, point, { ethernet: packet.ethernet, family }, clock.ms);
    const unlike = logDifference(machine.machine, logs);
    if (unlike !== undefined) return unlike;
    // A packet that is dropped takes its mark with it.
    if (verdict !== expected.verdict || (verdict !== 'DROP' && mark !== expected.mark)) {
      const said = `${verdict}, mark ${mark}; the evaluator says ${expected.verdict}, mark ${expected.mark}`;
      return `packet ${Buffer.from(packet.bytes).toString('hex')}: ${said}`;
    }
  }
  const counted = machine.counter(SystemCounter.hotdrops).packets;
  if (counted !== hotdrops) return `${counted} hotdrops, the evaluator says ${hotdrops}`;
  for (const [index, { definition }] of judged.sets.entries()) {
    const contents = contentsOf(machine.machine.sets.get(definition.name)!, clock.ms);
    if (contents !== judged.contents[index])
      return `set ${definition.name}: ${contents}; the evaluator says ${judged.contents[index]}`;
    const fault = setFault(machine.machine, index, definition);
    if (fault !== undefined) return `set ${definition.name}: ${fault}`;
  }
  const counts = JSON.stringify(sorted(programCounts(policy, (index) => machine.counter(index))));
  const expected = JSON.stringify(sorted(judged.counts));
  return counts === expected ? undefined : `counters ${counts}, the evaluator says ${expected}`;
}

/** @throws {Error} when the table of a set is not as it must be */
export function contentsAfter(given: MachineCase, policy: CompiledPolicy): string {
  const { family, group, hook, packets } = given;
  const place = entryIndex({ flavour: 'netfilter', family, group, hook });
  const clock = { ms: START_MS };
  const sets = setsOf(given);
  const machine = caseMachine(given, policy, clock, sets);
  for (const packet of packets) {
    clock.ms += packet.waitMs;
    machine.judge(place, { ...inputOf(packet, hook), family, hook });
  }
  return sets
    .map(({ definition }, index) => {
      const fault = setFault(machine.machine, index, definition);
      if (fault !== undefined) throw new Error(`set ${definition.name}: ${fault}`);
      return contentsOf(machine.machine.sets.get(definition.name)!, clock.ms);
    })
    .join('\n');
}

function caseMachine(
  { family }: MachineCase,
  policy: CompiledPolicy,
  clock: { ms: number },
  sets: readonly SetContents[],
): MachinePolicy {
  return new MachinePolicy(policy, {
    clock,
    random: xorshift(CASE_SEED),
    surroundings: { addresses: worldAddressTypes(family) },
    sets,
    secrets: caseSecrets(),
  });
}

/** By these the keys of a case find their places in sets, one set after the other. */
export function caseSecrets(): () => bigint {
  const random = xorshift(CASE_SEED);
  return () => (BigInt(random()) << 32n) | BigInt(random());
}

function inputOf(packet: CasePacket, hook: Hook) {
  const { bytes, inDevice, outDevice, mark, packetType, ethernet, linearBytes } = packet;
  return {
    bytes,
    linearBytes,
    ...(ethernet === undefined ? {} : { ethernet }),
    inDevice: hook === 3 || hook === 4 ? '' : inDevice,
    outDevice: hook < 2 ? '' : outDevice,
    mark,
    packetType,
  };
}

function sorted(counts: Counts): (readonly [string, string])[] {
  return Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1));
}
