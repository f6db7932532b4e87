/** Sends packets to the kernel and to the evaluator, and compares every counter after each of them. */
import { Conntrack } from '../../src/netstack/conntrack/index.ts';
import {
  createHost,
  type EvaluationHost,
  evaluatePacket,
  parseRuleset,
  type Reassembler,
} from '../../src/rules/index.ts';
import type { GeneratedRuleset } from './generate/rulesets.ts';
import type { Shape } from './generate/shape.ts';
import { worldRouting } from './generate/world.ts';
import { type CounterLine, evaluatedCounters, type LiveFirewall } from './live-firewall.ts';

export interface Difference {
  readonly packet: number;
  readonly hex: string;
  readonly inDevice: string;
  /** Counters that the kernel has otherwise, after this packet. */
  readonly kernel: readonly CounterLine[];
  readonly evaluated: readonly CounterLine[];
}

/** Fragments for this host wait for others that never come: each IPv4 packet has an identification of its own. */
const neverWhole: Reassembler = { reassemble: () => undefined };

/** The host that stands for the namespace: same rules, addresses, routes and clock. */
export function evaluatedWorld(ruleset: GeneratedRuleset): EvaluationHost {
  const { ruleset: rules, diagnostics } = parseRuleset(ruleset.text, {
    file: 'generated.rules',
    family: ruleset.family,
  });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`line ${error.span.line}: ${error.message}: ${error.sourceLine}`);
  const nowMs = (): number => performance.now();
  return createHost({
    ruleset: rules,
    routing: worldRouting(ruleset.family),
    nowMs,
    random32: () => 0x7fffffff,
    reassembler: neverWhole,
    ...(ruleset.stateful ? { conntrack: new Conntrack({ clock: { nowMs } }) } : {}),
  });
}

/** The first difference; `undefined` when kernel and evaluator agree on every counter after every packet. */
export function firstDifference(
  firewall: LiveFirewall,
  ruleset: GeneratedRuleset,
  shapes: readonly Shape[],
): Difference | undefined {
  const host = evaluatedWorld(ruleset);
  firewall.load(ruleset.family, ruleset.text);
  for (const [index, shape] of shapes.entries()) {
    const input = firewall.inject(shape);
    evaluatePacket(host, input);
    const kernel = firewall.counters();
    const evaluated = evaluatedCounters(host);
    const differs = kernel.length !== evaluated.length || kernel.some((line, at) => line !== evaluated[at]);
    if (!differs) continue;
    return {
      packet: index,
      hex: Buffer.from(input.bytes).toString('hex'),
      inDevice: input.inDevice,
      kernel: kernel.filter((line) => !evaluated.includes(line)),
      evaluated: evaluated.filter((line) => !kernel.includes(line)),
    };
  }
  return undefined;
}
