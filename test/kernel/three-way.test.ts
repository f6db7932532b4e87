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
  type AddressType,
  compilePolicy,
  entryIndex,
  type TableGroup,
} from '../../src/compile/index.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import { netfilterContext } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { evaluatorCounts, hostFor, judge, onlyTable, programCounts } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { type GeneratedRuleset, generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { ADDRESSES, prefix, worldRouting } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const RULESETS = SOAK ? 2000 : 60;
const PACKETS = 40;

/** Matches whose outcome depends on the clock or on chance: compared elsewhere, with both injected. */
const TIMED = /-m (limit|statistic --mode random)/;
/** What no program does: refused at compile time, tested there. */
const REFUSED =
  /--chunk-types|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;

const RTN_LOCAL = 2;
const RTN_BROADCAST = 3;
const RTN_ANYCAST = 4;
const RTN_MULTICAST = 5;

/** The world's addresses as the table of address types has them. */
function addressTypes(family: Family): AddressType[] {
  const entry = (text: string, type: number): AddressType => {
    const { address, length } = prefix(text);
    return { value: address.bytes, prefixLength: length, type, device: 0 };
  };
  if (family === 'ipv6') {
    const own = ADDRESSES.ipv6.flatMap(({ address }) => {
      const { address: host, length } = prefix(address);
      const network = host.bytes.map(
        (byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, length - index * 8))),
      );
      return [
        { value: host.bytes, prefixLength: 128, type: RTN_LOCAL, device: 0 },
        { value: network, prefixLength: 128, type: RTN_ANYCAST, device: 0 },
      ];
    });
    return [...own, entry('::1/128', RTN_LOCAL), entry('ff00::/8', RTN_MULTICAST)];
  }
  const own = ADDRESSES.ipv4.flatMap(({ address }) => {
    const { address: host, length } = prefix(address);
    const value = host.bytes.slice();
    for (let bit = length; bit < 32; bit++) value[bit >> 3]! |= 0x80 >> (bit & 7);
    return [
      { value: host.bytes, prefixLength: 32, type: RTN_LOCAL, device: 0 },
      { value, prefixLength: 32, type: RTN_BROADCAST, device: 0 },
    ];
  });
  return [
    ...own,
    entry('127.0.0.0/8', RTN_LOCAL),
    entry('0.0.0.0/32', RTN_BROADCAST),
    entry('255.255.255.255/32', RTN_BROADCAST),
    entry('224.0.0.0/4', RTN_MULTICAST),
  ];
}

const GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];

interface Case {
  readonly family: Family;
  readonly group: TableGroup;
  readonly hook: Hook;
  readonly generated: GeneratedRuleset;
  readonly packets: readonly Uint8Array[];
}

function cases(family: Family): fc.Arbitrary<Case> {
  return generatedRuleset({ family, maximumRules: 6 })
    .filter(({ text }) => !TIMED.test(text) && !REFUSED.test(text))
    .chain((generated) =>
      fc.record({
        family: fc.constant(family),
        generated: fc.constant(generated),
        group: fc.constantFrom(...GROUPS),
        hook: fc.constantFrom<Hook>(0, 1, 2, 3, 4),
        packets: fc.array(packetsFor(generated, { fragments: true }).map(buildPacket), {
          minLength: PACKETS,
          maxLength: PACKETS,
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

function compare({ family, group, hook, generated, packets }: Case): number {
  const ruleset = onlyTable(parse(generated), group);
  const chain = ruleset.tables[0]?.chains.find(({ name }) => name === HOOK_CHAINS[hook]);
  if (chain === undefined) return 0;
  const policy = compilePolicy([ruleset], { hooks: ['netfilter'] });
  const place = entryIndex({ flavour: 'netfilter', family, group, hook });
  using loaded = new LoadedPolicy(policy, { addresses: addressTypes(family) }, 'only', [place]);
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
    const text = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    expect({ packet: text, verdict }).toEqual({ packet: text, verdict: expected.verdict });
    compared += 1;
  }
  expect(programCounts(policy, (index) => loaded.counter(index))).toEqual(evaluatorCounts(host));
  return compared;
}

describeKernel('evaluator = kernel test run', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}, netfilter`, () => {
      let compared = 0;
      fc.assert(
        fc.property(cases(family), (one) => {
          compared += compare(one);
        }),
        // A counterexample of many rules and packets says little; the error names the packet.
        { numRuns: RULESETS, endOnFailure: true },
      );
      expect(compared).toBeGreaterThan(RULESETS * 5);
    });
  }
});
