/**
 * How fast rules are read and packets decided by the reference engine: rules parsed a second, rules printed a second,
 * packets a second of `run --engine evaluate` on the shipped example, replayed many times.
 *
 * Interleaved rounds; the 10th percentile of each measure's times counts. Prints JSON. Run: `npm run bench rules`.
 */
import { readFileSync } from 'node:fs';
import { EvaluationEngine, type ReplayPacket, replayPackets } from '../../src/host/index.ts';
import { parsePrefix } from '../../src/net/index.ts';
import { parseRuleset, printRuleset } from '../../src/rules/index.ts';

const ROUNDS = 12;
const RULES = 10_000;

/** Rules as people have them: prefixes, ports, states, comments. */
function manyRules(): string {
  const lines = ['*filter', ':INPUT DROP [0:0]', ':FORWARD DROP [0:0]', ':OUTPUT ACCEPT [0:0]'];
  for (let index = 0; index < RULES; index++) {
    const net = `${10 + (index % 90)}.${(index >> 4) & 255}.${(index * 7) & 255}.0/24`;
    const forms = [
      `-A INPUT -s ${net} -p tcp -m tcp --dport ${1 + (index % 60000)} -j ACCEPT`,
      `-A INPUT -s ${net} -p udp -m multiport --dports 53,123,${1000 + (index % 5000)} -m comment --comment "rule ${index}" -j ACCEPT`,
      `-A INPUT -i eth0 -p tcp -m conntrack --ctstate NEW -m tcp --dport 443 -j ACCEPT`,
      `-A FORWARD -s ${net} -d 192.0.2.0/24 -j DROP`,
    ];
    lines.push(forms[index % forms.length]!);
  }
  return `${lines.join('\n')}\nCOMMIT\n`;
}

const text = manyRules();
const { ruleset } = parseRuleset(text, { file: 'bench', family: 'ipv4' });
const example = new URL('../../examples/', import.meta.url);
const exampleRules = parseRuleset(readFileSync(new URL('edge.rules', example), 'utf8'), {
  file: 'edge',
  family: 'ipv4',
});
const packets: ReplayPacket[] = [];
async function* chunks(): AsyncGenerator<Uint8Array> {
  yield readFileSync(new URL('edge.pcapng', example));
}
for await (const packet of replayPackets(chunks(), () => {})) packets.push(packet);

function decideAll(): number {
  const engine = new EvaluationEngine({
    rulesets: [exampleRules.ruleset],
    vantage: { kind: 'host', local: [parsePrefix('192.0.2.1')!, parsePrefix('10.1.0.1')!] },
    routes: [{ prefix: parsePrefix('10.1.0.0/24')!, device: 'eth1' }],
    verifyChecksums: false,
    random32: () => 0,
  });
  let decided = 0;
  for (let repeat = 0; repeat < 50; repeat++) {
    for (const packet of packets) {
      engine.decide({ ...packet, timeMs: packet.timeMs + repeat * 1000 });
      decided++;
    }
  }
  return decided;
}

const measures: { name: string; unit: string; work: () => number; perSecond: number[] }[] = [
  {
    name: 'parse',
    unit: 'rules/s',
    work: () => {
      parseRuleset(text, { file: 'bench', family: 'ipv4' });
      return RULES;
    },
    perSecond: [],
  },
  {
    name: 'print',
    unit: 'rules/s',
    work: () => {
      printRuleset(ruleset);
      return RULES;
    },
    perSecond: [],
  },
  { name: 'evaluate', unit: 'packets/s', work: decideAll, perSecond: [] },
];
for (let round = 0; round < ROUNDS; round++) {
  for (const measure of measures) {
    const start = performance.now();
    const done = measure.work();
    measure.perSecond.push(done / ((performance.now() - start) / 1000));
  }
}
/** The 10th percentile of the times is the 90th of the speeds. */
const best = (speeds: number[]): number =>
  Math.round(speeds.toSorted((a, b) => b - a)[Math.floor(speeds.length / 10)]!);
console.log(
  JSON.stringify({
    bench: 'rules',
    version: 1,
    node: process.version,
    rules: RULES,
    results: measures.map(({ name, unit, perSecond }) => ({ name, unit, value: best(perSecond) })),
  }),
);
