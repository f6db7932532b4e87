import {
  type Decision,
  EvaluationEngine,
  InterpreterEngine,
  kernelEngine,
  NetstackEngine,
  parseHostConfig,
  type ReplayEngine,
  type ReplayOptions,
  type ReplayPacket,
  readLiveHost,
  replayPackets,
  type Vantage,
} from '../../host/index.ts';
import { HOOK_CHAINS } from '../../ir/index.ts';
import { parsePrefix } from '../../net/index.ts';
import type { CaptureError } from '../../wire/index.ts';
import { type Command, type Invocation, UsageError } from '../command.ts';
import { type CliEnvironment, openInput, readInput } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { reportFailure } from '../failure.ts';
import { counted } from '../output/count.ts';
import { countersJson, countersText } from '../output/counters.ts';
import { explanationJson, explanationText } from '../output/explanation.ts';
import { packetLine } from '../output/packet.ts';
import { RULE_FILES, type RuleFile, readRuleFiles, refusing, requireOnePolicy } from '../rulesets.ts';
import { requireSets, SETS_OPTION } from '../sets.ts';

const ENGINES = ['evaluate', 'interpreter', 'kernel', 'netstack'] as const;
type Engine = EvaluationEngine | InterpreterEngine | NetstackEngine | ReplayEngine;

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

/** `--owner UID[:GID[,GROUP…]]` */
function senderOf(invocation: Invocation): ReplayOptions['sender'] {
  const text = invocation.text('owner');
  if (text === undefined) return undefined;
  const ids = /^[0-9]+(?::[0-9]+(?:,[0-9]+)*)?$/.test(text) ? text.split(/[:,]/).map(Number) : [];
  const [uid, gid = 0, ...groups] = ids;
  if (uid === undefined || ids.some((id) => id > 0xffff_fffe))
    throw new UsageError(`--owner takes UID[:GID[,GROUP…]] such as 1000:1000, not "${text}"`);
  return { uid, gid, groups };
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

/** The engine that the options ask for. @throws {UsageError}, {RefusedError}, {HostSettingsError} */
async function engineOf(
  invocation: Invocation,
  environment: CliEnvironment,
  files: readonly RuleFile[],
): Promise<Engine> {
  const rulesets = files.map(({ ruleset }) => ruleset);
  const inDevice = invocation.text('in');
  const sets = await requireSets(invocation, environment);
  const shared = {
    rulesets,
    ...(sets === undefined ? {} : { sets }),
    ...(inDevice === undefined ? {} : { inDevice }),
    verifyChecksums: invocation.flag('verify-checksums'),
    random32: seededRandom(invocation.number('seed', { min: 0, max: 0xffff_ffff }) ?? 1),
  };
  const sender = senderOf(invocation);
  const common = { ...shared, ...(sender === undefined ? {} : { sender }) };
  const config = invocation.text('config');
  const netns = invocation.text('netns');
  const engine = invocation.text('engine') ?? 'evaluate';
  if (invocation.text('explain') !== undefined && (engine === 'interpreter' || engine === 'kernel'))
    throw new UsageError(
      'programs do not say why a rule did not match',
      'explain with --engine evaluate or --engine netstack',
    );
  if (engine !== 'netstack') {
    if (config !== undefined || netns !== undefined)
      throw new UsageError('--config and --netns are for the netstack', 'add --engine netstack');
    const options = { ...common, vantage: vantageOf(invocation), routes: routesOf(invocation) };
    return refusing(files, () => {
      if (engine === 'interpreter') return new InterpreterEngine(options);
      return engine === 'kernel' ? kernelEngine(options) : new EvaluationEngine(options);
    });
  }
  for (const name of ['local', 'route', 'chain'])
    if (invocation.list(name).length > 0 || invocation.text(name) !== undefined)
      throw new UsageError(`--${name} is not for the netstack`, 'say it in --config FILE');
  if ((config === undefined) === (netns === undefined))
    throw new UsageError('the netstack takes one of --config and --netns', 'see: sluice run --help');
  const host =
    config === undefined
      ? readLiveHost(netns!)
      : parseHostConfig(new TextDecoder().decode(await readInput(config, environment)));
  if (inDevice !== undefined && !host.devices.some(({ name }) => name === inDevice))
    throw new UsageError(
      `the host has no device "${inDevice}"`,
      `it has ${host.devices.map(({ name }) => name).join(', ')}`,
    );
  return refusing(files, () => new NetstackEngine({ ...common, host }));
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
  engine: Engine,
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
    if (packet.number === wanted && 'explain' in engine) {
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
    'Each packet goes the way it would go through a host with these rules: raw, conntrack, mangle, filter, security, in hook order,\nwith the time of the capture. --local says which addresses are this host: packets to them come in, packets from them go out,\nall others are forwarded. Without --local and --chain every packet is for this host.\nWith --engine interpreter or kernel the rules are compiled, and the programs decide at each hook: in the user-space machine, or in the kernel. There\ntest runs are asked; where rules want devices, marks or connections, real packets go through a namespace made for them, whose connections\nage by the machine\'s clock. Rules about time or chance, and those of nat tables, are refused there.\nWith --engine netstack it goes through a whole host: routing, translation, ICMP errors, refragmentation; --config is JSON such as\n{"devices":[{"name":"eth0","mtu":1500,"addresses":["192.0.2.1/24"]}],"routes":[{"to":"default","via":"192.0.2.254","dev":"eth0"}],"sysctls":{"net.ipv4.ip_forward":1}}.\nWith --json: a line {"packet":…} for each packet, then {"counters":…}.',
  arguments: [
    {
      name: 'RULES',
      summary: 'iptables-save file; say -4 or -6 where its family does not follow from it',
      optional: true,
    },
  ],
  options: [
    ...RULE_FILES,
    SETS_OPTION,
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
    {
      long: 'engine',
      value: 'ENGINE',
      choices: ENGINES,
      completes: 'choices',
      summary: 'what decides: the rules alone (default), their programs, or a whole host in user space',
    },
    {
      long: 'config',
      value: 'FILE',
      completes: 'file',
      summary: 'netstack: the host as JSON: devices with addresses, routes, sysctls',
    },
    {
      long: 'netns',
      value: 'NAME',
      completes: 'netns',
      summary: 'netstack: a host like this namespace: its devices, addresses, routes, sysctls, connections',
    },
    { long: 'counters', short: 'c', summary: 'print the rules with their counters at the end' },
    {
      long: 'explain',
      value: 'N',
      summary: 'show every rule on the way of packet N, and why it matched or not',
    },
    { long: 'quiet', short: 'q', summary: 'no line for each packet' },
    { long: 'verify-checksums', summary: 'let conntrack call packets with wrong checksums INVALID' },
    {
      long: 'owner',
      value: 'UID[:GID[,GROUP…]]',
      summary: 'who sent the packets of this host, for -m owner (they come from no socket)',
    },
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
    {
      line: 'sluice run rules.v4 --pcap office.pcap --engine netstack --config router.json --explain 17',
      says: 'every station of its way through a router, translation included',
    },
  ],
  async run(invocation, environment) {
    const capture = invocation.text('pcap');
    if (capture === undefined) throw new UsageError('no capture given', 'name one with --pcap FILE');
    const files = await readRuleFiles(invocation, environment);
    requireOnePolicy(files);
    const engine = await engineOf(invocation, environment, files);
    let broken: CaptureError | undefined;
    try {
      const packets = replayPackets(openInput(capture, environment), (error) => {
        broken = error;
      });
      const sums = await replay(engine, packets, invocation, environment);
      const json = invocation.flag('json');
      const explaining = invocation.text('explain') !== undefined;
      if (json && !explaining) {
        await environment.stdout.write(`${JSON.stringify(countersJson(await engine.counters(), sums))}\n`);
      } else if (invocation.flag('counters')) {
        await environment.stdout.write(countersText(await engine.counters()));
      }
      if (!json && !explaining) {
        const held = sums.HELD === 0 ? '' : `, ${sums.HELD} held`;
        await environment.stderr.write(
          `${counted(sums.ACCEPT + sums.DROP + sums.HELD, 'packet')}: ${sums.ACCEPT} accepted, ${sums.DROP} dropped${held}\n`,
        );
      }
    } finally {
      await engine.close();
    }
    if (broken !== undefined) {
      const words = invocation.flag('json') ? ['--json'] : [];
      return await reportFailure(Object.assign(broken, { file: capture }), words, environment);
    }
    return ExitCode.OK;
  },
};
