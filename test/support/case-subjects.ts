/**
 * What seeded mistakes are shown to at netfilter: cases as the evaluator judges them, connections as the kernel may have them,
 * and packets that no rule gets to see.
 */
import {
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  type StrategyName,
  SystemCounter,
} from '../../src/compile/index.ts';
import type { MachinePacket } from '../../src/host/replay/machine.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { programCounts } from './compare.ts';
import type { CrowdedCase } from './crowded-sets.ts';
import { anyShape } from './generate/packets.ts';
import { buildPacket } from './generate/shape.ts';
import {
  compileRuleset,
  contentsAfter,
  firstDifference,
  type JudgedCase,
  judgeCase,
  type MachineCase,
  rulesetOf,
} from './machine-cases.ts';
import { MACHINE_HZ, MachinePolicy } from './machine-policy.ts';
import { sample } from './mistake-cases.ts';
import type { Subject } from './mistakes.ts';

type View = NonNullable<MachinePacket['conntrack']>;
const NAT_BITS = { SNAT: 0x10, DNAT: 0x20 } as const;
const STATES = ['INVALID', 'NEW', 'ESTABLISHED', 'RELATED', 'UNTRACKED'] as const;

/** Connections as the kernel may have them, whatever packets led there, and the rules that they must meet. */
export function connectionSubject(family: Family, strategy: StrategyName = 'inline'): Subject {
  const conditions: readonly (readonly [string, (view: View) => boolean])[] = [
    ...STATES.map((state) => [`--ctstate ${state}`, (view: View) => view.state === state] as const),
    ...(['SNAT', 'DNAT'] as const).map(
      (nat) =>
        [`--ctstate ${nat}`, (view: View) => known(view) && (view.status & NAT_BITS[nat]) !== 0] as const,
    ),
    ['--ctdir ORIGINAL', (view) => known(view) && view.direction === 'original'],
    ['--ctdir REPLY', (view) => known(view) && view.direction === 'reply'],
    ['--ctstatus SEEN_REPLY', (view) => known(view) && (view.status & 2) !== 0],
    ['--ctstatus EXPECTED', (view) => known(view) && (view.status & 1) !== 0],
  ];
  const text = [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ...conditions.map(([condition]) => `-A FORWARD -m conntrack ${condition}`),
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset } = parseRuleset(text, { file: 'connections', family });
  const tuple = {
    source: new Uint8Array(16),
    destination: new Uint8Array(16),
    sourcePort: 1,
    destinationPort: 2,
    protocol: 17,
  };
  const views: View[] = STATES.flatMap((state) =>
    (['original', 'reply'] as const).flatMap((direction) =>
      [0, 1, 2, 0x10, 0x20, 0x38a].map(
        (status): View => ({
          state,
          direction,
          status,
          mark: 0,
          expiresSec: 9,
          original: tuple,
          reply: tuple,
        }),
      ),
    ),
  ).filter(({ state, direction }) => state !== 'NEW' || direction === 'original');
  const [shape] = sample(anyShape(family), 1);
  const bytes = buildPacket({ ...shape!, extensions: [], ipOptions: new Uint8Array(0) });
  const place = entryIndex({ flavour: 'netfilter', family, group: 'filter', hook: 2 });
  return {
    write: () => {
      const policy = compilePolicy([ruleset], { hooks: ['netfilter'], strategy, hz: MACHINE_HZ });
      return () => difference(policy);
    },
  };

  function difference(policy: CompiledPolicy): string | undefined {
    const machine = new MachinePolicy(policy);
    const met = conditions.map(() => 0n);
    for (const conntrack of views) {
      machine.run(place, { family, hook: 2, bytes, inDevice: 'eth0', outDevice: 'eth1', conntrack });
      for (const [index, [, holds]] of conditions.entries()) if (holds(conntrack)) met[index]! += 1n;
      const counts = programCounts(policy, (index) => machine.counter(index));
      const counted = conditions.map(
        (_, index) => counts[`filter FORWARD ${index + 1}`]?.split(':')[0] ?? '0',
      );
      if (counted.join() !== met.join()) return `${conntrack.state}: ${counted.join()} for ${met.join()}`;
    }
    return undefined;
  }
}

function known({ state }: View): boolean {
  return state !== 'INVALID' && state !== 'UNTRACKED';
}

/** What is no IP packet is dropped and counted, where softirq counts and where process context may. */
export function unreadSubject(family: Family, strategy: StrategyName = 'inline'): Subject {
  const text =
    '*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp\n-A OUTPUT -p tcp\nCOMMIT\n';
  const { ruleset } = parseRuleset(text, { file: 'unread', family });
  const header = family === 'ipv4' ? 20 : 40;
  const packet = new Uint8Array(header + 4);
  packet[0] = family === 'ipv4' ? 0x45 : 0x60;
  packet[family === 'ipv4' ? 9 : 6] = 17;
  const wrong: Uint8Array[] = Array.from({ length: header }, (_, length) => packet.slice(0, length));
  const firsts = family === 'ipv4' ? [0x44, 0x40, 0x55, 0x65, 0x05] : [0x40, 0x50, 0x70, 0xe0];
  for (const first of firsts) wrong.push(packet.with(0, first));
  return {
    write: () => {
      const policy = compilePolicy([ruleset], { hooks: ['netfilter'], strategy, hz: MACHINE_HZ });
      return () => difference(policy);
    },
  };

  function difference(policy: CompiledPolicy): string | undefined {
    const machine = new MachinePolicy(policy);
    let dropped = 0n;
    for (const hook of [1, 3] as const) {
      const place = entryIndex({ flavour: 'netfilter', family, group: 'filter', hook });
      const devices = { inDevice: hook === 1 ? 'eth0' : '', outDevice: hook === 1 ? '' : 'eth0' };
      for (const bytes of wrong) {
        const verdict = machine.run(place, { family, hook, bytes, ...devices });
        dropped += 1n;
        const { packets } = machine.counter(SystemCounter.malformed);
        if (verdict !== 'DROP' || packets !== dropped) return `${verdict}, ${packets} of ${dropped}`;
      }
      if (machine.run(place, { family, hook, bytes: packet, ...devices }) !== 'ACCEPT')
        return 'a packet is lost';
    }
    return undefined;
  }
}

/** What is in the set of the case in the end, whatever the evaluator says. */
export function crowdedSubject({ given, entries }: CrowdedCase, strategy: StrategyName = 'inline'): Subject {
  const ruleset = rulesetOf(given)!;
  const wanted = [...entries].sort().join('\n');
  return {
    write: () => {
      const compiled = compileRuleset(ruleset, given, strategy);
      return () => {
        const contents = contentsAfter(given, compiled);
        return contents === wanted ? undefined : `${contents} for ${wanted}`;
      };
    },
  };
}

/** A case as what mistakes are shown to, judged when one first is. */
export function caseSubject(given: MachineCase, strategy: StrategyName = 'inline'): Subject[] {
  const ruleset = rulesetOf(given);
  if (ruleset === undefined) return [];
  let judged: JudgedCase | undefined;
  return [
    {
      write: () => {
        const compiled = compileRuleset(ruleset, given, strategy);
        return () => {
          judged ??= judgeCase(given)!;
          return firstDifference(judged, compiled);
        };
      },
    },
  ];
}
