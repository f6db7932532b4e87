/** `run --engine kernel`: test runs of the compiled programs say what the reference says, packet by packet. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  EvaluationEngine,
  kernelEngine,
  type ReplayOptions,
  type ReplayPacket,
} from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { sluice } from '../support/cli.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { ADDRESSES, prefix } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { disagreements, engineFor, walkOptions, walkPackets } from '../support/replays.ts';
import { sharedDataFiles } from '../support/shared-data.ts';
import { parseWalkRules, readWalk } from '../support/walks.ts';
import { xorshift } from '../support/xorshift.ts';

const RULESETS = process.env.SLUICE_SOAK === '1' ? 1000 : 15;
const CAPTURE = fileURLToPath(new URL('../../examples/edge.pcapng', import.meta.url));
/** What a test run does not have; engines refuse it, which is tested below. */
const BEYOND = / (-i|-o|--mac-source|--pkt-type|--mark|--limit|--mode random|--chunk-types|--limit-iface)/;
/** An Ethernet frame of a test run fits one page. */
const MAXIMUM_BYTES = 3600;

function packetOf(bytes: Uint8Array, family: Family, index: number): ReplayPacket {
  return {
    number: index + 1,
    timeMs: index,
    linkType: 101,
    device: 'eth0',
    frame: bytes,
    ip: { family, bytes, cut: false },
    packetType: 0,
    tagged: false,
  };
}

describeKernel('run --engine kernel', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}: every decision and every counter`, async () => {
      let compared = 0;
      const cases = generatedRuleset({ family, maximumRules: 8 })
        .filter(({ text }) => !BEYOND.test(text))
        .chain((generated) =>
          fc.record({
            text: fc.constant(generated.text),
            packets: fc.array(packetsFor(generated, { fragments: true }).map(buildPacket), {
              minLength: 30,
              maxLength: 30,
            }),
          }),
        );
      const property = fc.asyncProperty(cases, async ({ text, packets }) => {
        const { ruleset } = parseRuleset(text, { file: 'generated', family });
        const options: ReplayOptions = {
          rulesets: [ruleset],
          vantage: { kind: 'host', local: ADDRESSES[family].map(({ address }) => prefix(address)) },
          routes: [],
          verifyChecksums: false,
          random32: xorshift(7),
        };
        const kernel = engineFor(() => kernelEngine(options));
        if (kernel === undefined) return;
        try {
          const reference = new EvaluationEngine(options);
          const sent = packets
            .filter(({ length }) => length <= MAXIMUM_BYTES)
            .map((bytes, index) => packetOf(bytes, family, index));
          expect(await disagreements(reference, kernel, sent)).toEqual([]);
          expect(await kernel.counters()).toEqual(reference.counters());
          compared += sent.length;
        } finally {
          await kernel.close();
        }
      });
      await fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
      expect(compared).toBeGreaterThan(RULESETS * 10);
    });
  }

  test('recorded packets through real rulesets that test runs can tell', async () => {
    let compared = 0;
    const found: unknown[] = [];
    for (const file of sharedDataFiles('kernel-walks')) {
      const walk = readWalk(file);
      const ruleset = parseWalkRules(file, walk.canonical);
      const options = walkOptions(walk, ruleset);
      const reference = engineFor(() => new EvaluationEngine(options));
      if (reference === undefined) continue;
      const kernel = engineFor(() => kernelEngine(options));
      if (kernel === undefined) continue;
      try {
        const packets = walkPackets(walk, ruleset).filter(({ frame }) => frame.length <= MAXIMUM_BYTES);
        for (const one of await disagreements(reference, kernel, packets)) found.push({ file, ...one });
        expect(await kernel.counters()).toEqual(reference.counters());
        compared += packets.length;
      } finally {
        await kernel.close();
      }
    }
    console.log(`${compared} recorded packets compared`);
    expect(found).toEqual([]);
  });

  test('prints what the reference prints', async () => {
    const stdin =
      '*filter\n:INPUT DROP [0:0]\n:web - [0:0]\n-A INPUT -p tcp -m multiport --dports 80,443 -j web\n' +
      '-A INPUT -p tcp -j REJECT --reject-with tcp-reset\n-A INPUT -p icmp -j LOG\n-A web -s 192.0.2.0/24 -j ACCEPT\n' +
      '-A web -m statistic --mode nth --every 2 --packet 0 -j ACCEPT\nCOMMIT\n';
    const words = ['run', '-4', '-', '--pcap', CAPTURE, '--json'];
    const reference = await sluice(words, { stdin });
    expect(await sluice([...words, '--engine', 'kernel'], { stdin })).toEqual(reference);
    expect(reference.stdout).toContain('"web"');
  });

  test('says which privilege is missing', async () => {
    const stdin = '*filter\n:INPUT DROP [0:0]\nCOMMIT\n';
    const words = ['run', '-4', '-', '--pcap', CAPTURE, '--engine', 'kernel'];
    process.seteuid?.(65_534);
    try {
      const { code, stdout, stderr } = await sluice(words, { stdin });
      expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
      expect(stderr).toContain('hint: ');
    } finally {
      process.seteuid?.(0);
    }
  });
});
