/**
 * Generated cases for the user-space machine: a ruleset, a hook, and packets with what surrounds them; what the evaluator says
 * of them, and whether the compiled programs say the same. Clock and chance are injected, the same for both.
 */
import fc from 'fast-check';
import { compilePolicy, entryIndex, type TableGroup } from '../../src/compile/index.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import { createHost, parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { worldAddressTypes } from './addresstypes.ts';
import { type Counts, evaluatorCounts, judge, onlyTable, programCounts } from './compare.ts';
import { packetsFor } from './generate/packets.ts';
import { generatedRuleset } from './generate/rulesets.ts';
import { buildPacket } from './generate/shape.ts';
import { worldRouting } from './generate/world.ts';
import { MACHINE_HZ, MachinePolicy } from './machine-policy.ts';

/** What no program does, refused at compile time and tested there; and the matches that want an Ethernet header. */
const REFUSED =
  /-m mac|--chunk-types|--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;
const GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];
const HOOKS: readonly Hook[] = [0, 1, 2, 3, 4];
/** State, devices, fragments, chains of the user's own. */
const DEMANDING = /-m (conntrack|state|limit|statistic|frag) | -[io] | -f |^:\S+ - /m;
const START_MS = 1_000_000;

export interface CasePacket {
  readonly bytes: Uint8Array;
  readonly inDevice: string;
  readonly outDevice: string;
  readonly mark: number;
  readonly packetType: number;
  /** Time that passes before it. */
  readonly waitMs: number;
}

export interface MachineCase {
  readonly family: Family;
  readonly group: TableGroup;
  readonly hook: Hook;
  readonly text: string;
  readonly packets: readonly CasePacket[];
}

/** The same ruleset and packets at every hook of every table group. */
export function machineCases(family: Family, packets: number): fc.Arbitrary<readonly MachineCase[]> {
  return generatedRuleset({ family, maximumRules: 6 })
    .filter(({ text }) => !REFUSED.test(text))
    .chain((generated) =>
      fc.record({
        family: fc.constant(family),
        text: fc.constant(generated.text),
        packets: fc.array(
          fc.record({
            bytes: packetsFor(generated, { fragments: true }).map(buildPacket),
            inDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
            outDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
            mark: fc.constantFrom(0, 1, 2, 0xffffffff),
            packetType: fc.constantFrom(0, 1, 2),
            waitMs: fc.constantFrom(0, 0, 4, 1000, 90_000),
          }),
          { minLength: packets, maxLength: packets },
        ),
      }),
    )
    .map((given) => GROUPS.flatMap((group) => HOOKS.map((hook) => ({ ...given, group, hook }))));
}

/** A case and what the evaluator says of it. */
export interface JudgedCase {
  readonly given: MachineCase;
  readonly ruleset: Ruleset;
  /** By packet; `undefined` where the stack decides before any rule. */
  readonly verdicts: readonly (string | undefined)[];
  readonly counts: Counts;
  /** True when rules about state, devices, fragments or chains of the user's own are among them. */
  readonly demanding: boolean;
}

/** `undefined` when the table has no chain at the hook. */
export function judgeCase(given: MachineCase): JudgedCase | undefined {
  const { family, group, hook } = given;
  const { ruleset: whole, diagnostics } = parseRuleset(given.text, { file: 'generated', family });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`generated ruleset: ${error.message}\n${given.text}`);
  const ruleset = onlyTable(whole, group);
  const [table] = ruleset.tables;
  if (!table?.chains.some(({ name }) => name === HOOK_CHAINS[hook])) return undefined;
  const clock = { ms: START_MS };
  const host = createHost({
    ruleset,
    routing: worldRouting(family),
    nowMs: () => clock.ms,
    random32: xorshift(7),
  });
  const verdicts = given.packets.map((packet) => {
    clock.ms += packet.waitMs;
    return judge(host, ruleset, { ...inputOf(packet, hook), hook })?.verdict;
  });
  const section = new RegExp(`^\\*${table.name}\\n[\\s\\S]*?^COMMIT$`, 'm').exec(given.text)?.[0] ?? '';
  return { given, ruleset, verdicts, counts: evaluatorCounts(host), demanding: DEMANDING.test(section) };
}

/** What the programs compiled from a ruleset (the case's own when absent) say otherwise; `undefined` when nothing. */
export function firstDifference(judged: JudgedCase, compiled: Ruleset = judged.ruleset): string | undefined {
  const { family, group, hook, packets } = judged.given;
  const policy = compilePolicy([compiled], { hooks: ['netfilter'], strategy: 'inline', hz: MACHINE_HZ });
  const place = entryIndex({ flavour: 'netfilter', family, group, hook });
  const clock = { ms: START_MS };
  const machine = new MachinePolicy(policy, {
    clock,
    random: xorshift(7),
    surroundings: { addresses: worldAddressTypes(family) },
  });
  for (const [index, packet] of packets.entries()) {
    clock.ms += packet.waitMs;
    const expected = judged.verdicts[index];
    if (expected === undefined) continue;
    const verdict = machine.run(place, { ...inputOf(packet, hook), family, hook });
    if (verdict === undefined) return undefined;
    if (verdict !== expected) {
      return `packet ${Buffer.from(packet.bytes).toString('hex')}: ${verdict}, the evaluator says ${expected}`;
    }
  }
  const counts = JSON.stringify(sorted(programCounts(policy, (index) => machine.counter(index))));
  const expected = JSON.stringify(sorted(judged.counts));
  return counts === expected ? undefined : `counters ${counts}, the evaluator says ${expected}`;
}

function inputOf({ bytes, inDevice, outDevice, mark, packetType }: CasePacket, hook: Hook) {
  return {
    bytes,
    inDevice: hook === 3 || hook === 4 ? '' : inDevice,
    outDevice: hook < 2 ? '' : outDevice,
    mark,
    packetType,
  };
}

function sorted(counts: Counts): (readonly [string, string])[] {
  return Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1));
}

function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
