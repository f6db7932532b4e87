/**
 * Rules as tables: one program, loaded once, gives the evaluator's verdicts and counters for every ruleset that is put
 * into its arena. SLUICE_SOAK=1 multiplies the cases.
 */
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import {
  ACTIONS_MAP,
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import { encodeProgram } from '../../src/isa/index.ts';
import { netfilterContext } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { worldAddressTypes } from '../support/addresstypes.ts';
import { classBenchRules, classBenchTrace, headerBytes } from '../support/classbench.ts';
import { evaluatorCounts, hostFor, judge, onlyTable, programCounts } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { overlappingRules } from '../support/overlapping.ts';
import { LoadedPolicy } from '../support/policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const RULESETS = SOAK ? 4000 : 60;
const PACKETS = 40;
const ROOM = 64 << 20;
const HOOK: Hook = 1;
const TIMED = /-m (limit|statistic --mode random)/;
/** What no program does, and what tables do not hold: such rules stay code. */
const REFUSED =
  /--chunk-types|--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;

const place = (family: Family): number =>
  entryIndex({ flavour: 'netfilter', group: 'filter', family, hook: HOOK });

/** One program for each family, loaded once. */
const loaded = new Map<Family, LoadedPolicy>();
afterAll(() => {
  for (const one of loaded.values()) one.close();
});

function putIn(family: Family, policy: CompiledPolicy): LoadedPolicy {
  const known = loaded.get(family);
  if (known === undefined) {
    const addresses = worldAddressTypes(family);
    const fresh = new LoadedPolicy(policy, { addresses }, 'only', [place(family)], 1, ROOM);
    loaded.set(family, fresh);
    return fresh;
  }
  expect(codeOf(policy, family)).toEqual(codeOf(known.policy, family));
  known.renew(policy);
  return known;
}

function codeOf(policy: CompiledPolicy, family: Family): Uint8Array {
  const program = policy.programs.find(({ point }) => entryIndex(point) === place(family))!;
  return encodeProgram(program.code.instructions);
}

function asTables(ruleset: Ruleset): CompiledPolicy {
  return compilePolicy([ruleset], { hooks: ['netfilter'], strategy: 'classifier' });
}

function frame(family: Family, packet: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(14 + packet.length);
  bytes.set(family === 'ipv4' ? [8, 0] : [0x86, 0xdd], 12);
  bytes.set(packet, 14);
  return bytes;
}

function compare(family: Family, ruleset: Ruleset, packets: readonly Uint8Array[]): number {
  const policy = asTables(ruleset);
  const kernel = putIn(family, policy);
  const host = hostFor(ruleset, worldRouting(family));
  let compared = 0;
  for (const bytes of packets) {
    const data = frame(family, bytes);
    if (data.length > 3712 || bytes.length < (family === 'ipv4' ? 20 : 40)) continue;
    const expected = judge(host, ruleset, { bytes, hook: HOOK, inDevice: '', outDevice: 'lo' });
    if (expected === undefined) continue;
    const { returnValue } = kernel.run(place(family), {
      data,
      context: netfilterContext(family, HOOK),
      dataRoom: 0,
    });
    const rejected = kernel.takeAll(ACTIONS_MAP).some((word) => (word & 0xffn) !== 0n);
    const verdict = returnValue === 0 ? 'DROP' : rejected ? 'REJECT' : 'ACCEPT';
    const packet = Buffer.from(bytes).toString('hex');
    expect({ packet, verdict }).toEqual({ packet, verdict: expected.verdict });
    compared += 1;
  }
  expect(programCounts(policy, (index) => kernel.counter(index))).toEqual(evaluatorCounts(host));
  return compared;
}

function parse(text: string, family: Family): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'generated', family });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return onlyTable(ruleset, 'filter');
}

describeKernel('evaluator = tables in the kernel', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}`, () => {
      let compared = 0;
      const cases = generatedRuleset({ family, maximumRules: 30 })
        .filter(({ text }) => !TIMED.test(text) && !REFUSED.test(text))
        .chain((generated) =>
          fc.record({
            generated: fc.constant(generated),
            packets: fc.array(packetsFor(generated, { fragments: true }).map(buildPacket), {
              minLength: PACKETS,
              maxLength: PACKETS,
            }),
          }),
        );
      const property = fc.property(cases, ({ generated, packets }) => {
        const ruleset = parse(generated.text, family);
        if (!ruleset.tables[0]?.chains.some(({ name }) => name === HOOK_CHAINS[HOOK])) return;
        compared += compare(family, ruleset, packets);
      });
      fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
      expect(compared).toBeGreaterThan(RULESETS * 5);
    });

    for (const size of [1, 10, 100, 300, ...(SOAK ? [1000, 10_000] : [])]) {
      test(`${size} rules that overlap, ${family}`, () => {
        const seeds = fc.integer({ min: 1, max: 0x7fffffff });
        const property = fc.property(seeds, (seed) => {
          const { text, packets } = overlappingRules(size, family, seed, size > 1000 ? 200 : 60);
          expect(compare(family, parse(text, family), packets)).toBeGreaterThan(0);
        });
        fc.assert(property, { numRuns: SOAK ? 10 : 2, endOnFailure: true });
      });
    }
  }

  const large = SOAK ? ['fw1_10000', 'acl1_100000'] : [];
  for (const name of ['acl1_1000', 'fw1_1000', 'ipc1_1000', 'acl1_10000', ...large]) {
    const data = classBenchRules(name);
    test.skipIf(data === undefined)(`ClassBench ${name}: the first rule that fits`, () => {
      const policy = asTables(parse(data!, 'ipv4'));
      const kernel = putIn('ipv4', policy);
      const wanted = new Map<number, bigint>();
      for (const { header, expected } of classBenchTrace(name, SOAK ? Number.POSITIVE_INFINITY : 3000)) {
        const run = {
          data: frame('ipv4', headerBytes(header)),
          context: netfilterContext('ipv4', HOOK),
          dataRoom: 0,
        };
        const { returnValue } = kernel.run(place('ipv4'), run);
        expect({ header, verdict: returnValue }).toEqual({ header, verdict: expected % 2 === 0 ? 1 : 0 });
        wanted.set(expected, (wanted.get(expected) ?? 0n) + 1n);
      }
      const { ir, firstCounter } = policy.tables[0]!;
      for (const [index, rule] of ir.chains.get('INPUT')!.rules.entries()) {
        const { packets } = kernel.counter(SYSTEM_COUNTERS + firstCounter + rule.counter);
        if (packets !== (wanted.get(index) ?? 0n))
          expect({ index, packets }).toEqual({ index, packets: wanted.get(index) });
      }
    });
  }
});
