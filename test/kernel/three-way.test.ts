/**
 * The evaluator and the kernel's own run of the compiled programs agree on verdicts and on every counter.
 *
 * A netfilter test run has no input device and no connection state, and its output device is `lo`; what needs more is
 * compared live. SLUICE_SOAK=1 multiplies the cases.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ACTIONS_MAP,
  type CompiledPolicy,
  CompileError,
  compilePolicy,
  entryIndex,
  type TableGroup,
} from '../../src/compile/index.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import { netfilterContext } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, type Ruleset, type TableName } from '../../src/rules/index.ts';
import { worldAddressTypes } from '../support/addresstypes.ts';
import { evaluatorCounts, hostFor, judge, onlyTable, programCounts } from '../support/compare.ts';
import { isDemanding } from '../support/demanding.ts';
import { nearby } from '../support/generate/nearby.ts';
import { everyCut, packetsFor } from '../support/generate/packets.ts';
import { type GeneratedRuleset, generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';
import { xorshift } from '../support/xorshift.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
/** Rulesets of a run: as many runs as the pairs take. */
const RULESETS = 10;
/** A load costs more than many runs, and making a packet more than changing one. */
const PACKETS = 100;
const NEARBY = 5;
/** Pairs of a ruleset and a packet, at least: each family at netfilter, each of the other hooks, and all together. */
const NETFILTER_PAIRS = SOAK ? 600_000 : 60_000;
const OTHER_PAIRS = SOAK ? 160_000 : 16_000;
const ALL_PAIRS = SOAK ? 2_000_000 : 200_000;
/** Of them, those of rulesets about state, devices, fragments, or with chains of the user's own. */
const DEMANDING_SHARE = 0.6;

/** Matches whose outcome depends on the clock or on chance: compared elsewhere, with both injected. */
const TIMED = /-m (limit|statistic --mode random)/;
/** What no program does (refused at compile time, tested there), and what the world of this test cannot tell. */
const REFUSED =
  /--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;

const GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];

interface Case {
  readonly family: Family;
  readonly group: TableGroup;
  readonly hook: Hook;
  readonly generated: GeneratedRuleset;
  readonly packets: readonly Uint8Array[];
}

function cases(family: Family): fc.Arbitrary<Case> {
  return fc
    .boolean()
    .chain((stateful) => generatedRuleset({ family, stateful, maximumRules: 6 }))
    .filter(({ text }) => !TIMED.test(text) && !REFUSED.test(text))
    .chain((generated) =>
      fc.record({
        family: fc.constant(family),
        generated: fc.constant(generated),
        group: fc.constantFrom(...GROUPS),
        hook: fc.constantFrom<Hook>(0, 1, 2, 3, 4),
        packets: fc
          .tuple(
            fc.array(packetsFor(generated, { fragments: true }), { minLength: PACKETS, maxLength: PACKETS }),
            fc.integer({ min: 1 }),
          )
          .map(([[first, ...others], seed]) => {
            const made = [...everyCut(first!), ...others].map(buildPacket);
            const random32 = xorshift(seed);
            return made.flatMap((packet) => [
              packet,
              ...Array.from({ length: NEARBY }, () => nearby(packet, random32)),
            ]);
          }),
      }),
    );
}

function parse(generated: GeneratedRuleset): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(generated.text, {
    file: 'generated',
    family: generated.family,
  });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return ruleset;
}

/** Test runs at all hooks but LOCAL_OUT take a frame; its addresses are those of `lo`. */
function frame(family: Family, hook: Hook, packet: Uint8Array): Uint8Array {
  if (hook === 3) return packet;
  const bytes = new Uint8Array(14 + packet.length);
  bytes.set(family === 'ipv4' ? [8, 0] : [0x86, 0xdd], 12);
  bytes.set(packet, 14);
  return bytes;
}

/** Fails with the packet. Only asked where verdicts differ: to expect each one takes longer than to run it. */
function differs(bytes: Uint8Array, verdict: string, expected: string): void {
  const packet = Buffer.from(bytes).toString('hex');
  expect({ packet, verdict }).toEqual({ packet, verdict: expected });
}

function compare({ family, group, hook, generated, packets }: Case): number {
  const ruleset = onlyTable(parse(generated), group);
  const chain = ruleset.tables[0]?.chains.find(({ name }) => name === HOOK_CHAINS[hook]);
  if (chain === undefined) return 0;
  const policy = compilePolicy([ruleset], { hooks: ['netfilter'] });
  const place = entryIndex({ flavour: 'netfilter', family, group, hook });
  using loaded = new LoadedPolicy(policy, { addresses: worldAddressTypes(family) }, 'only', [place]);
  if (!loaded.dispatchers.has(place)) return 0;
  const host = hostFor(ruleset, worldRouting(family));
  let compared = 0;
  for (const bytes of packets) {
    const data = frame(family, hook, bytes);
    if (data.length > 3712 || bytes.length < (family === 'ipv4' ? 20 : 40)) continue;
    const expected = judge(host, ruleset, { bytes, hook, inDevice: '', outDevice: 'lo' });
    if (expected === undefined) continue;
    const { returnValue } = loaded.run(place, { data, context: netfilterContext(family, hook), dataRoom: 0 });
    const handed = loaded.takeAll(ACTIONS_MAP);
    const rejected = handed.some((word) => (word & 0xffn) !== 0n);
    const verdict = returnValue === 0 ? 'DROP' : rejected ? 'REJECT' : 'ACCEPT';
    if (verdict !== expected.verdict) differs(bytes, verdict, expected.verdict);
    compared += 1;
  }
  expect(programCounts(policy, (index) => loaded.counter(index))).toEqual(evaluatorCounts(host));
  return compared;
}

/** The other kinds of hook, each with the chain that it runs here: a namespace without forwarding delivers all. */
const OTHERS = [
  { name: 'xdp', place: entryIndex({ flavour: 'xdp' }), chain: 1, accept: 2 },
  {
    name: 'tcx-ingress',
    place: entryIndex({ flavour: 'tcx', direction: 'ingress' }),
    chain: 1,
    accept: 0xffffffff,
  },
  {
    name: 'tcx-egress',
    place: entryIndex({ flavour: 'tcx', direction: 'egress' }),
    chain: 3,
    accept: 0xffffffff,
  },
  {
    name: 'cgroup-ingress',
    place: entryIndex({ flavour: 'cgroup', direction: 'ingress' }),
    chain: 1,
    accept: 1,
  },
  {
    name: 'cgroup-egress',
    place: entryIndex({ flavour: 'cgroup', direction: 'egress' }),
    chain: 3,
    accept: 1,
  },
] as const;

/** 802.1Q, 802.1ad, and one in the other. */
const TAGS: readonly (readonly number[])[] = [[0x8100], [0x88a8], [0x88a8, 0x8100]];

/** The frame with VLAN tags of these protocols, the outer one first. */
function tagged(frame: Uint8Array, tags: readonly number[]): Uint8Array {
  const head = tags.flatMap((protocol) => [protocol >> 8, protocol & 0xff, 0, 7]);
  return Uint8Array.of(...frame.subarray(0, 12), ...head, ...frame.subarray(12));
}

/** Compares at one of the other hooks; `undefined` when the hook refuses the ruleset. */
function compareOther(one: Case, hook: (typeof OTHERS)[number]): number | undefined {
  const { family, generated, packets } = one;
  const text = generated.text.replace(/-j REJECT.*/g, '-j DROP');
  const ruleset = onlyTable(parse({ ...generated, text }), 'filter');
  let policy: CompiledPolicy;
  try {
    policy = compilePolicy([ruleset], { hooks: [hook.name], fragments: 'rules' });
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
  using loaded = new LoadedPolicy(policy, { addresses: worldAddressTypes(family) });
  const host = hostFor(ruleset, worldRouting(family));
  const ingress = hook.chain === 1;
  // A test run's packet is one of lo, whose headers have no source addresses for mac_mt; XDP sees Ethernet everywhere.
  const ethernetOf = (data: Uint8Array): Uint8Array | undefined =>
    hook.name === 'xdp' ? data.subarray(0, 14) : undefined;
  let compared = 0;
  for (const [index, bytes] of packets.entries()) {
    const data = frame(family, 1, bytes);
    const ethernet = ethernetOf(data);
    if (data.length > 3500 || bytes.length < (family === 'ipv4' ? 20 : 40)) continue;
    const expected = judge(host, ruleset, {
      bytes,
      hook: hook.chain,
      inDevice: ingress ? 'lo' : '',
      outDevice: ingress ? '' : 'lo',
      ...(ethernet === undefined ? {} : { ethernet }),
    });
    if (expected === undefined) continue;
    // A tagged frame belongs to its VLAN's own device: it passes here, and no counter moves.
    if (!hook.name.startsWith('cgroup') && index % (NEARBY + 1) === 0)
      for (const tags of TAGS) {
        const { returnValue } = loaded.run(hook.place, { data: tagged(data, tags) });
        if (returnValue !== hook.accept) expect(returnValue, tags.join()).toBe(hook.accept);
      }
    const { returnValue } = loaded.run(hook.place, { data });
    const verdict = returnValue === hook.accept ? 'ACCEPT' : 'DROP';
    if (verdict !== expected.verdict) differs(bytes, verdict, expected.verdict);
    compared += 1;
  }
  expect(programCounts(policy, (index) => loaded.counter(index))).toEqual(evaluatorCounts(host));
  return compared;
}

interface Tally {
  compared: number;
  demanding: number;
  rulesets: number;
}
const tallies: Tally[] = [];

/** What a place compared and how much of it was demanding. */
function report(where: string, { compared, demanding, rulesets }: Tally): void {
  const share = ((100 * demanding) / compared).toFixed(1);
  console.log(
    `${where}: ${compared} pairs of one of ${rulesets} rulesets and a packet in the kernel's test run, ${share} % with state, device, fragment or user-chain rules`,
  );
}

/** Runs the cases until there have been enough rulesets and pairs. `run` gives the pairs of a case. */
function tally(
  where: string,
  wanted: number,
  given: fc.Arbitrary<Case>,
  tableOf: (one: Case) => TableName,
  run: (one: Case) => number | undefined,
): { tally: Tally; refused: number } {
  const counted: Tally = { compared: 0, demanding: 0, rulesets: 0 };
  let refused = 0;
  const property = fc.property(given, (one) => {
    const done = run(one);
    if (done === undefined) refused += 1;
    else {
      counted.compared += done;
      counted.rulesets += 1;
      if (isDemanding(one.generated.text, tableOf(one))) counted.demanding += done;
    }
  });
  // A counterexample of many rules and packets says little; the error names the packet.
  let seed = fc.readConfigureGlobal().seed ?? Math.trunc(Math.random() * 0x7fff_ffff);
  do fc.assert(property, { seed: seed++, numRuns: RULESETS, endOnFailure: true });
  while (counted.compared < wanted);
  tallies.push(counted);
  report(where, counted);
  return { tally: counted, refused };
}

describeKernel('evaluator = kernel test run', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}, netfilter`, () => {
      const { tally: counted } = tally(
        `netfilter, ${family}`,
        NETFILTER_PAIRS,
        cases(family),
        ({ group }) => group,
        compare,
      );
      expect(counted.demanding).toBeGreaterThanOrEqual(counted.compared * DEMANDING_SHARE);
    });
  }
  for (const hook of OTHERS) {
    test(`generated rulesets at ${hook.name}`, () => {
      const either = fc.oneof(cases('ipv4'), cases('ipv6'));
      const { tally: counted, refused } = tally(
        hook.name,
        OTHER_PAIRS,
        either,
        () => 'filter',
        (one) => compareOther(one, hook),
      );
      expect(refused).toBeLessThan((refused + counted.rulesets) * 0.8);
    });
  }

  test('all hooks together', () => {
    const sum = (of: (one: Tally) => number): number => tallies.reduce((total, one) => total + of(one), 0);
    const all: Tally = {
      compared: sum(({ compared }) => compared),
      demanding: sum(({ demanding }) => demanding),
      rulesets: sum(({ rulesets }) => rulesets),
    };
    report('all hooks', all);
    expect(all.compared).toBeGreaterThanOrEqual(ALL_PAIRS);
    expect(all.demanding).toBeGreaterThanOrEqual(all.compared * DEMANDING_SHARE);
  });
});
