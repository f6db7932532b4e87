/**
 * Rules as tables in the user-space machine: the evaluator's verdicts and counters, clock and chance included; the first
 * matches that ClassBench expects; and rulesets made to blow tables up, which must stay exact within stated memory.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  formatAttachPoint,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { createHost, parseRuleset, parseSets, placesInOrder, type Ruleset } from '../../src/rules/index.ts';
import { worldAddressTypes } from '../support/addresstypes.ts';
import { ADVERSARIES, adversaryText } from '../support/adversaries.ts';
import { classBenchRules, classBenchTrace, headerBytes } from '../support/classbench.ts';
import { evaluatorCounts, judge, onlyTable, programCounts } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';
import { MACHINE_HZ, MachinePolicy } from '../support/machine-policy.ts';
import { xorshift } from '../support/xorshift.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const RULESETS = SOAK ? 2000 : 40;
const PACKETS = 30;
const INPUT = 1;
const REFUSED =
  /-m mac|--chunk-types|--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;

const place = (family: Family): number =>
  entryIndex({ flavour: 'netfilter', group: 'filter', family, hook: INPUT });

function parse(text: string, family: Family, tables: 'filter' | 'all' = 'filter'): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'generated', family });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return tables === 'all' ? ruleset : onlyTable(ruleset, tables);
}

function asTables(ruleset: Ruleset): CompiledPolicy {
  return compilePolicy([ruleset], { hooks: ['netfilter'], hz: MACHINE_HZ, strategy: 'classifier' });
}

interface Sent {
  readonly bytes: Uint8Array;
  readonly inDevice?: string;
  readonly mark?: number;
  readonly packetType?: number;
  readonly waitMs?: number;
}

/** Packets that both decided. */
function compare(family: Family, ruleset: Ruleset, packets: readonly Sent[]): number {
  const policy = asTables(ruleset);
  const clock = { ms: 1_000_000 };
  const host = createHost({
    ruleset,
    routing: worldRouting(family),
    nowMs: () => clock.ms,
    random32: xorshift(7),
  });
  const surroundings = { addresses: worldAddressTypes(family) };
  const machine = new MachinePolicy(policy, { clock, random: xorshift(7), surroundings });
  let compared = 0;
  for (const { bytes, inDevice = 'eth0', mark = 0, packetType = 0, waitMs = 0 } of packets) {
    clock.ms += waitMs;
    const input = { bytes, hook: INPUT, inDevice, outDevice: '', mark, packetType } as const;
    const expected = judge(host, ruleset, input);
    if (expected === undefined) continue;
    const verdict = machine.run(place(family), { ...input, family });
    if (verdict !== expected.verdict) {
      const packet = Buffer.from(bytes).toString('hex');
      expect({ packet, verdict }).toEqual({ packet, verdict: expected.verdict });
    }
    compared += 1;
  }
  expect(programCounts(policy, (index) => machine.counter(index))).toEqual(evaluatorCounts(host));
  return compared;
}

describe('evaluator = tables in the interpreter', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}`, () => {
      let compared = 0;
      const cases = generatedRuleset({ family, maximumRules: 40 })
        .filter(({ text }) => !REFUSED.test(text))
        .chain((generated) =>
          fc.record({
            text: fc.constant(generated.text),
            packets: fc.array(
              fc.record({
                bytes: packetsFor(generated, { fragments: true }).map(buildPacket),
                inDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
                mark: fc.constantFrom(0, 1, 2, 0xffffffff),
                packetType: fc.constantFrom(0, 1, 2),
                waitMs: fc.constantFrom(0, 0, 4, 1000, 90_000),
              }),
              { minLength: PACKETS, maxLength: PACKETS },
            ),
          }),
        );
      const property = fc.property(cases, ({ text, packets }) => {
        compared += compare(family, parse(text, family), packets);
      });
      fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
      expect(compared).toBeGreaterThan(RULESETS * 5);
    });
  }

  for (const name of ['acl1_1000', 'acl2_1000', 'acl3_1000', 'acl5_1000', 'fw1_1000', 'ipc1_1000']) {
    const text = classBenchRules(name);
    test.skipIf(text === undefined)(`ClassBench ${name}: the first rule that fits`, () => {
      const policy = asTables(parse(text!, 'ipv4'));
      const machine = new MachinePolicy(policy);
      const wanted = new Map<number, number>();
      for (const { header, expected } of classBenchTrace(name, SOAK ? Number.POSITIVE_INFINITY : 2000)) {
        const bytes = headerBytes(header);
        const verdict = machine.run(place('ipv4'), {
          family: 'ipv4',
          bytes,
          hook: INPUT,
          inDevice: 'eth0',
          outDevice: '',
        });
        const right = expected % 2 === 0 ? 'ACCEPT' : 'DROP';
        if (verdict !== right) expect({ header, verdict }).toEqual({ header, verdict: right });
        wanted.set(expected, (wanted.get(expected) ?? 0) + 1);
      }
      const { ir, firstCounter } = policy.tables[0]!;
      const found = new Map<number, number>();
      for (const [index, rule] of ir.chains.get('INPUT')!.rules.entries()) {
        const packets = Number(machine.counter(SYSTEM_COUNTERS + firstCounter + rule.counter).packets);
        if (packets > 0) found.set(index, packets);
      }
      expect([...found].sort(([a], [b]) => a - b)).toEqual([...wanted].sort(([a], [b]) => a - b));
    });
  }
});

describe('rulesets made to blow tables up', () => {
  for (const adversary of ADVERSARIES) {
    test(adversary.name, () => {
      const { family, most } = adversary;
      const ruleset = parse(adversaryText(adversary), family);
      const random = xorshift(99);
      const packets = Array.from({ length: 12 }, () => ({ bytes: packetFor(family, random) }));
      expect(compare(family, ruleset, packets)).toBe(packets.length);
      const rules = ruleset.tables[0]!.chains.reduce((sum, chain) => sum + chain.rules.length, 0);
      expect(asTables(ruleset).classifier!.size / rules).toBeLessThan(most);
    });
  }

  test('chains that are too long for tables, or too deep, say so', () => {
    const deep = Array.from({ length: 20 }, (_, at) => `:C${at} - [0:0]`);
    const jumps = Array.from({ length: 19 }, (_, at) => `-A C${at} -j C${at + 1}`);
    const text = ['*filter', ':INPUT ACCEPT [0:0]', ...deep, '-A INPUT -j C0', ...jumps, 'COMMIT', ''];
    const policy = compilePolicy([parse(text.join('\n'), 'ipv4')], {
      hooks: ['netfilter'],
      strategy: 'classifier',
    });
    const choice = policy.choices.find(({ point }) => entryIndex(point) === place('ipv4'));
    expect(choice?.strategy).toBe('inline');
    expect(choice?.reason).toMatch(/chains call each other 20 deep, tables allow 16/);
  });

  test('one program walks the tables at all hooks of a table group and family, whatever their rules ask for', () => {
    const { sets } = parseSets('create s hash:ip\n', { file: 'sets' });
    const text = (more: string): string => `*mangle
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING ${more} -j MARK --set-mark 1
-A OUTPUT -p tcp -m conntrack --ctstate NEW -j LOG
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT ${more} -j DROP
COMMIT
`;
    const rulesets = [
      parse(text('-m set --match-set s src'), 'ipv4', 'all'),
      parse(text('-i eth0'), 'ipv6', 'all'),
    ];
    const { programs } = compilePolicy(rulesets, {
      hooks: ['netfilter'],
      strategy: 'classifier',
      sets: placesInOrder(sets),
    });
    const hooksOf = new Map<unknown, string[]>();
    for (const { point, code } of programs)
      hooksOf.set(code, [...(hooksOf.get(code) ?? []), formatAttachPoint(point)]);
    const of = (family: Family, group: string, hooks: readonly string[]): string[] =>
      hooks.map((hook) => `netfilter ${hook} ${family} (${group})`);
    expect([...hooksOf.values()]).toEqual([
      of('ipv4', 'mangle', ['PREROUTING', 'OUTPUT']),
      of('ipv6', 'mangle', ['PREROUTING', 'OUTPUT']),
      of('ipv4', 'filter', ['INPUT', 'FORWARD', 'OUTPUT']),
      of('ipv6', 'filter', ['INPUT', 'FORWARD', 'OUTPUT']),
    ]);
  });
});

/** To an address that adversaries speak of, from anywhere in their networks. */
function packetFor(family: Family, random: () => number): Uint8Array {
  const header = {
    source: 0x0a000000 | (random() & 0x00ffffff),
    destination: 0x0a000000 | (random() & 0x003fffff),
    protocol: [6, 17][random() & 1]!,
    sourcePort: random() & 0xffff,
    destinationPort: random() & 0xffff,
  };
  if (family === 'ipv4') return headerBytes(header);
  const bytes = new Uint8Array(60);
  const view = new DataView(bytes.buffer);
  bytes.set([0x60, 0, 0, 0, 0, 20, header.protocol, 64]);
  view.setUint16(8, 0xfd00 + (random() & 0xff));
  view.setUint16(10, random() & 3);
  view.setUint16(22, random() & 0xffff);
  view.setUint16(24, 0xfd00);
  view.setUint16(38, 1);
  view.setUint16(40, header.sourcePort);
  view.setUint16(42, header.destinationPort);
  if (header.protocol === 6) bytes[52] = 0x50;
  return bytes;
}
