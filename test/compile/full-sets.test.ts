/** Sets that are full and let other entries make room (forceadd), in programs: which entry goes is nobody's to rely on. */
import { expect, it } from 'vitest';
import { compilePolicy, entryIndex } from '../../src/compile/index.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import { Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, parseSets, placesInOrder } from '../../src/rules/index.ts';
import { packetFor } from '../support/set-packets.ts';

const MAXELEM = 5;
const PACKETS = 300;

it.each(
  (['ipv4', 'ipv6'] as const).flatMap((family) =>
    (['inline', 'classifier'] as const).map((strategy) => [family, strategy] as const),
  ),
)(
  '%s, %s: the newest entry is always there, and never more than there may be',
  (family: Family, strategy) => {
    const { sets } = parseSets(
      `create s hash:ip,port family ${family === 'ipv4' ? 'inet' : 'inet6'} maxelem ${MAXELEM} forceadd counters\n`,
      { file: 'sets' },
    );
    const rules =
      '-A INPUT -m set --match-set s src,src\n-A INPUT -j SET --add-set s src,src\n-A INPUT -m set ! --match-set s src,src -j DROP\n';
    const { ruleset } = parseRuleset(`*filter\n:INPUT ACCEPT [0:0]\n${rules}COMMIT\n`, {
      file: 'rules',
      family,
    });
    const policy = compilePolicy([ruleset], {
      hooks: ['netfilter'],
      hz: MACHINE_HZ,
      sets: placesInOrder(sets),
      strategy,
    });
    const machine = new PolicyMachine(policy, { clock: { monotonicNs: () => 1_000_000_000n }, sets });
    const table = machine.sets.get('s')!;
    const place = entryIndex({ flavour: 'netfilter', group: 'filter', family, hook: Hook.LOCAL_IN });
    for (let number = 0; number < PACKETS; number++) {
      const bytes = packetFor(family, {
        source: (number % 9) + 1,
        destination: 1,
        protocol: 17,
        sourcePort: Math.imul(number, 40_503) & 0xffff,
        destinationPort: 53,
        cut: 40,
        fragment: 0,
        mark: 0,
        device: 'eth0',
        ethernet: undefined,
      });
      const { accepted } = machine.run(place, {
        bytes,
        hook: Hook.LOCAL_IN,
        inDevice: 'eth0',
        outDevice: '',
        mark: 0,
        ethernet: undefined,
        family,
      })!;
      const entries = [...table.elements()].length;
      if (!accepted || entries !== Math.min(number + 1, MAXELEM) || table.count !== entries)
        expect({ number, accepted, entries, count: table.count }).toEqual({});
    }
  },
);
