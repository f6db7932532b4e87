import { createReadStream } from 'node:fs';
import {
  type Decision,
  EvaluationEngine,
  type ReplayEngine,
  type ReplayOptions,
  type ReplayPacket,
  replayPackets,
  type Vantage,
} from '../../host/index.ts';
import { HOOK_CHAINS } from '../../ir/index.ts';
import { parsePrefix } from '../../net/index.ts';
import type { CaptureError } from '../../wire/index.ts';
import { type Command, type Invocation, UsageError } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { reportFailure } from '../failure.ts';
import { countersJson, countersText } from '../output/counters.ts';
import { explanationJson, explanationText } from '../output/explanation.ts';
import { packetLine } from '../output/packet.ts';
import { RULE_FILES, readRuleFiles, refusing, requireSound } from '../rulesets.ts';

const ENGINES = ['evaluate'] as const;

function vantageOf(invocation: Invocation): Vantage {
  const chain = invocation.text('chain');
  const local = invocation.list('local');
  if (chain !== undefined && local.length > 0) throw new UsageError('--chain and --local exclude each other');
  if (chain !== undefined) {
    if (!HOOK_CHAINS.includes(chain)) {
      throw new UsageError(
        `"${chain}" is no built-in chain`,
        `built-in chains are ${HOOK_CHAINS.join(', ')}`,
      );
    }
    return { kind: 'chain', chain };
  }
  const prefixes = local.map((text) => {
    const prefix = parsePrefix(text);
    if (prefix === undefined)
      throw new UsageError(`--local takes a prefix such as 192.0.2.1/32, not "${text}"`);
    return prefix;
  });
  return { kind: 'host', local: prefixes };
}

function routesOf(invocation: Invocation): ReplayOptions['routes'] {
  return invocation.list('route').map((text) => {
    const [, to, device] = /^(.+)=([^=/ ]{1,15})$/.exec(text) ?? [];
    const prefix = to === undefined ? undefined : parsePrefix(to);
    if (prefix === undefined)
      throw new UsageError(`--route takes PREFIX=DEVICE such as 10.0.0.0/8=eth1, not "${text}"`);
    return { prefix, device: device! };
  });
}

/** Random numbers that are the same in every run: a replay is repeatable (mulberry32). */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/** One packet's decision as `run --json` prints it. */
export function decisionJson(packet: number, decision: Decision): Readonly<Record<string, unknown>> {
  const { verdict, by, table, chain, rule, reason, matched } = decision;
  return {
    packet,
    verdict,
    ...(table === undefined ? {} : { table, chain, rule: by === 'policy' ? 'policy' : rule }),
    ...(by === 'hotdrop' ? { reason: 'hotdrop' } : reason === undefined ? {} : { reason }),
    matched,
  };
}

/** "filter INPUT 3", "filter INPUT policy", "stack: no-route". */
function decisionText(decision: Decision): string {
  const { by, table, chain, rule, reason } = decision;
  if (by === 'rule') return `${table} ${chain} ${rule}`;
  if (by === 'policy') return `${table} ${chain} policy`;
  if (by === 'hotdrop') return `${table} ${chain} ${rule} could not read it`;
  return reason ?? '';
}

interface Sums {
  ACCEPT: number;
  DROP: number;
  HELD: number;
}

async function replay(
  engine: ReplayEngine,
  packets: AsyncIterable<ReplayPacket>,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<Sums> {
  const json = invocation.flag('json');
  const wanted = invocation.number('explain', { min: 1, max: Number.MAX_SAFE_INTEGER });
  const silent = invocation.flag('quiet') || wanted !== undefined;
  const sums: Sums = { ACCEPT: 0, DROP: 0, HELD: 0 };
  let explained = false;
  for await (const packet of packets) {
    if (packet.number === wanted && engine instanceof EvaluationEngine) {
      const explanation = engine.explain(packet);
      explained = true;
      const text = json
        ? `${JSON.stringify(explanationJson(packet, explanation))}\n`
        : explanationText(packet, explanation);
      await environment.stdout.write(text);
      continue;
    }
    const decision = await engine.decide(packet);
    sums[decision.verdict]++;
    if (silent) continue;
    await environment.stdout.write(
      json
        ? `${JSON.stringify(decisionJson(packet.number, decision))}\n`
        : `${packetLine(packet)}  ${decision.verdict.padEnd(6)}  ${decisionText(decision)}\n`,
    );
  }
  if (wanted !== undefined && !explained) throw new UsageError(`the capture has no packet ${wanted}`);
  return sums;
}

export const run: Command = {
  name: 'run',
  summary: 'let a ruleset decide the packets of a capture',
  description:
    'Each packet goes the way it would go through a host with these rules: raw, conntrack, mangle, filter, security, in hook order,\nwith the time of the capture. --local says which addresses are this host: packets to them come in, packets from them go out,\nall others are forwarded. Without --local and --chain every packet is for this host.\nWith --json: a line {"packet":…} for each packet, then {"counters":…}.',
  arguments: [
    {
      name: 'RULES',
      summary: 'iptables-save file; say -4 or -6 where its family does not follow from it',
      optional: true,
    },
  ],
  options: [
    ...RULE_FILES,
    {
      long: 'pcap',
      value: 'CAPTURE',
      completes: 'file',
      summary: 'pcap or pcapng file, "-" for standard input',
    },
    {
      long: 'chain',
      value: 'CHAIN',
      summary: `ask one built-in chain's hook only: ${HOOK_CHAINS.join(', ')}`,
    },
    { long: 'local', value: 'PREFIX', repeatable: true, summary: 'addresses of this host' },
    {
      long: 'in',
      value: 'DEVICE',
      summary: 'device that packets come in by (the one that the capture names, else eth0)',
    },
    {
      long: 'route',
      value: 'PREFIX=DEVICE',
      repeatable: true,
      summary: 'device that packets to these addresses leave by (the one they came in by)',
    },
    { long: 'engine', value: 'ENGINE', choices: ENGINES, completes: 'choices', summary: 'what decides' },
    { long: 'counters', short: 'c', summary: 'print the rules with their counters at the end' },
    {
      long: 'explain',
      value: 'N',
      summary: 'show every rule on the way of packet N, and why it matched or not',
    },
    { long: 'quiet', short: 'q', summary: 'no line for each packet' },
    { long: 'verify-checksums', summary: 'let conntrack call packets with wrong checksums INVALID' },
    { long: 'seed', value: 'N', summary: 'seed of -m statistic --mode random (1)' },
  ],
  examples: [
    {
      line: 'sluice run rules.v4 --pcap office.pcap --local 192.0.2.1/32',
      says: 'which packets get through',
    },
    {
      line: 'sluice run rules.v4 --pcap office.pcap --explain 17',
      says: 'what became of packet 17, and why',
    },
  ],
  async run(invocation, environment) {
    const capture = invocation.text('pcap');
    if (capture === undefined) throw new UsageError('no capture given', 'name one with --pcap FILE');
    const files = await readRuleFiles(invocation, environment);
    requireSound(files);
    const vantage = vantageOf(invocation);
    const inDevice = invocation.text('in');
    const options: ReplayOptions = {
      rulesets: files.map(({ ruleset }) => ruleset),
      vantage,
      ...(inDevice === undefined ? {} : { inDevice }),
      routes: routesOf(invocation),
      verifyChecksums: invocation.flag('verify-checksums'),
      random32: seededRandom(invocation.number('seed', { min: 0, max: 0xffff_ffff }) ?? 1),
    };
    const engine = refusing(files, () => new EvaluationEngine(options));
    let broken: CaptureError | undefined;
    try {
      const chunks = capture === '-' ? environment.stdin : createReadStream(capture);
      const packets = replayPackets(chunks as AsyncIterable<Uint8Array>, (error) => {
        broken = error;
      });
      const sums = await replay(engine, packets, invocation, environment);
      const json = invocation.flag('json');
      const explaining = invocation.text('explain') !== undefined;
      if (json && !explaining) {
        await environment.stdout.write(`${JSON.stringify(countersJson(engine.counters(), sums))}\n`);
      } else if (invocation.flag('counters')) {
        await environment.stdout.write(countersText(engine.counters()));
      }
      if (!json && !explaining) {
        const held = sums.HELD === 0 ? '' : `, ${sums.HELD} held`;
        await environment.stderr.write(
          `${sums.ACCEPT + sums.DROP + sums.HELD} packets: ${sums.ACCEPT} accepted, ${sums.DROP} dropped${held}\n`,
        );
      }
    } finally {
      engine.close();
    }
    if (broken !== undefined) {
      const words = invocation.flag('json') ? ['--json'] : [];
      return await reportFailure(Object.assign(broken, { file: capture }), words, environment);
    }
    return ExitCode.OK;
  },
};
