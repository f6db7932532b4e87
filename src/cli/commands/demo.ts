import { createReadStream, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type Decision,
  decisionOf,
  EvaluationEngine,
  type ReplayOptions,
  replayPackets,
} from '../../host/index.ts';
import { parsePrefix } from '../../net/index.ts';
import { type Counters, parseRuleset, printRule, type Ruleset } from '../../rules/index.ts';
import type { Command } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { explanationText } from '../output/explanation.ts';

const RULES = fileURLToPath(new URL('../../../examples/edge.rules', import.meta.url));
const CAPTURE = fileURLToPath(new URL('../../../examples/edge.pcapng', import.meta.url));
/** The packet whose way is shown: a stranger at the door of ssh, once the limit is used up. */
const EXPLAINED = 60;

const prefix = (text: string) => parsePrefix(text)!;

/** The host of the example: two addresses, a network behind eth1. */
function exampleHost(ruleset: Ruleset): ReplayOptions {
  return {
    rulesets: [ruleset],
    vantage: { kind: 'host', local: [prefix('192.0.2.1'), prefix('10.1.0.1')] },
    routes: [
      { prefix: prefix('10.1.0.0/24'), device: 'eth1' },
      { prefix: prefix('0.0.0.0/0'), device: 'eth0' },
    ],
    verifyChecksums: true,
    random32: () => 0,
  };
}

function counted({ packets, bytes }: Counters): string {
  return `${String(packets).padStart(6)} ${String(bytes).padStart(7)}`;
}

/** Every rule and policy that a packet met, with its counters. */
function counterTable(ruleset: Ruleset): string {
  const lines = ['  packets   bytes  rule'];
  for (const table of ruleset.tables) {
    for (const chain of table.chains) {
      for (const rule of chain.rules) {
        if (rule.counters.packets > 0n) {
          lines.push(
            `   ${counted(rule.counters)}  ${table.name.padEnd(6)} ${printRule(rule, chain.name, ruleset.family)}`,
          );
        }
      }
      if (chain.policy === 'DROP')
        lines.push(`   ${counted(chain.counters)}  ${table.name.padEnd(6)} policy of ${chain.name}: DROP`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Where packets ended, most frequent first. */
function verdictTable(decisions: readonly Decision[]): string {
  const ends = new Map<string, number>();
  for (const { verdict, by, table, chain, rule, reason } of decisions) {
    const place =
      by === 'rule'
        ? `${table} ${chain} rule ${rule}`
        : by === 'policy'
          ? `policy of ${table} ${chain}`
          : (reason ?? '');
    const key = `${verdict.padEnd(6)}  ${place}`;
    ends.set(key, (ends.get(key) ?? 0) + 1);
  }
  const sorted = [...ends].sort(([, a], [, b]) => b - a);
  return sorted.map(([place, count]) => `  ${String(count).padStart(4)}  ${place}\n`).join('');
}

async function inUserSpace(environment: CliEnvironment): Promise<void> {
  const say = async (text: string): Promise<void> => await environment.stdout.write(text);
  const started = performance.now();
  const { ruleset } = parseRuleset(readFileSync(RULES, 'utf8'), { file: RULES, family: 'ipv4' });
  const engine = new EvaluationEngine(exampleHost(ruleset));
  const decisions: Decision[] = [];
  let explained = '';
  for await (const packet of replayPackets(createReadStream(CAPTURE), () => {})) {
    if (packet.number === EXPLAINED) {
      const explanation = engine.explain(packet);
      explained = explanationText(packet, explanation);
      if (typeof explanation !== 'string') decisions.push(decisionOf(explanation.outcome));
    } else {
      decisions.push(engine.decide(packet));
    }
  }
  const ms = (performance.now() - started).toFixed(0);
  await say(`In user space: ${decisions.length} packets decided by examples/edge.rules in ${ms} ms\n\n`);
  await say(verdictTable(decisions));
  await say(`\nWhat the rules counted\n\n${counterTable(engine.counters()[0]!.ruleset)}`);
  await say(`\nOne packet, explained\n\n${explained}`);
}

async function inKernel(environment: CliEnvironment): Promise<number> {
  const say = async (text: string): Promise<void> => await environment.stdout.write(text);
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    await say('\nIn the kernel: run it as root on Linux to see the same rules enforced on real packets\n');
    return ExitCode.OK;
  }
  const { liveDemo } = await import('../live-demo.ts');
  const { ruleset } = parseRuleset(readFileSync(RULES, 'utf8'), { file: RULES, family: 'ipv4' });
  const report = await liveDemo(ruleset, new EvaluationEngine(exampleHost(ruleset)));
  const { packets, rules, resets, unreachables, echoReplies, applyMs, commitUs } = report;
  await say(
    `\nIn the kernel: the same rules as eBPF programs in a namespace of their own, made live in ${applyMs.toFixed(0)} ms, put in force by one store (${commitUs.toFixed(0)} us)\n\n` +
      `${packets} real packets went in; ${resets} TCP resets, ${unreachables} ICMP refusals, ${echoReplies} echo replies came back\n\n` +
      '   kernel  evaluator  rule\n',
  );
  for (const { kernel, evaluator, text } of rules) {
    await say(
      `   ${String(kernel).padStart(6)}  ${String(evaluator).padStart(9)}  ${kernel === evaluator ? ' ' : '!'}${text}\n`,
    );
  }
  const apart = rules.filter(({ kernel, evaluator }) => kernel !== evaluator).length;
  await say(
    apart === 0
      ? '\nBoth engines agree on every rule. Nothing is left behind.\n'
      : `\nThe engines disagree on ${apart} rules.\n`,
  );
  return apart === 0 ? ExitCode.OK : ExitCode.FINDING;
}

export const demo: Command = {
  name: 'demo',
  summary: 'show the main job on the shipped rules and capture',
  arguments: [],
  options: [],
  async run(_invocation, environment) {
    await inUserSpace(environment);
    return await inKernel(environment);
  },
};
