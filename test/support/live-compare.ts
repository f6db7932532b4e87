/** Sends packets to the kernel and to the evaluator, and compares every counter after each of them. */

import { namespaceReassembler } from '../../src/host/replay/host.ts';
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
import { type CounterLine, evaluatedCounters, LiveFirewall } from './live-firewall.ts';
import type { Host } from './netns.ts';

export interface Difference {
  readonly packet: number;
  readonly hex: string;
  readonly inDevice: string;
  /** Counters that the kernel has otherwise, after this packet. */
  readonly kernel: readonly CounterLine[];
  readonly evaluated: readonly CounterLine[];
}

/** A namespace and what stands for it on the other side, for any number of rulesets one after the other. */
export class LiveComparison {
  readonly #firewall: LiveFirewall;
  readonly #nowMs = (): number => performance.now();
  /** Fragments wait in the namespace whatever rules come and go, so they must wait here, too. */
  readonly #reassembler: Reassembler = namespaceReassembler({ nowMs: this.#nowMs });

  constructor(host: Host) {
    this.#firewall = new LiveFirewall(host);
  }

  /** The first difference; `undefined` when kernel and evaluator agree on every counter after every packet. */
  firstDifference(ruleset: GeneratedRuleset, shapes: readonly Shape[]): Difference | undefined {
    const host = this.#evaluated(ruleset);
    this.#firewall.load(ruleset.family, ruleset.text);
    for (const [index, shape] of shapes.entries()) {
      const input = this.#firewall.inject(shape);
      evaluatePacket(host, input);
      const kernel = this.#firewall.counters();
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

  /** Same rules, addresses, routes and clock; an empty connection table. */
  #evaluated(ruleset: GeneratedRuleset): EvaluationHost {
    const { ruleset: rules, diagnostics } = parseRuleset(ruleset.text, {
      file: 'generated.rules',
      family: ruleset.family,
    });
    const error = diagnostics.find(({ severity }) => severity === 'error');
    if (error !== undefined) {
      throw new Error(`line ${error.span.line}: ${error.message}: ${error.sourceLine}`);
    }
    return createHost({
      ruleset: rules,
      routing: worldRouting(ruleset.family),
      nowMs: this.#nowMs,
      random32: () => 0x7fffffff,
      reassembler: this.#reassembler,
      ...(ruleset.stateful ? { conntrack: new Conntrack({ clock: { nowMs: this.#nowMs } }) } : {}),
    });
  }
}
