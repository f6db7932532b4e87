/** Sends packets to the kernel and to the evaluator, and compares every counter after each of them. */

import { namespaceReassembler } from '../../src/host/replay/host.ts';
import { Conntrack } from '../../src/netstack/conntrack/index.ts';
import {
  createHost,
  type EvaluationHost,
  evaluatePacket,
  type PacketOutcome,
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

/** How packets are sent, and how far they are compared. */
export interface Conduct {
  readonly before?: () => void;
  readonly isOpen?: (outcome: PacketOutcome) => boolean;
}

/** A namespace and what stands for it on the other side, for any number of rulesets one after the other. */
export class LiveComparison {
  readonly #firewall: LiveFirewall;
  readonly #nowMs: () => number;
  /** Fragments wait in the namespace whatever rules come and go, so they must wait here, too. */
  readonly #reassembler: Reassembler;

  constructor(host: Host, nowMs: () => number = () => performance.now()) {
    this.#firewall = new LiveFirewall(host);
    this.#nowMs = nowMs;
    this.#reassembler = namespaceReassembler({ nowMs });
  }

  /**
   * The first difference; `undefined` when kernel and evaluator agree on every counter after every packet.
   * @param before called before each packet
   * @param isOpen whether the kernel decides such a packet by chance: nothing is compared from there on
   */
  firstDifference(
    ruleset: GeneratedRuleset,
    shapes: readonly Shape[],
    { before, isOpen }: Conduct = {},
  ): Difference | undefined {
    const host = this.#evaluated(ruleset);
    this.#firewall.load(ruleset.family, ruleset.text);
    for (const [index, shape] of shapes.entries()) {
      before?.();
      const input = this.#firewall.inject(shape);
      const outcome = evaluatePacket(host, input);
      if (isOpen?.(outcome) === true) return undefined;
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
      wallMs: Date.now,
      random32: () => 0x7fffffff,
      reassembler: this.#reassembler,
      ...(ruleset.stateful ? { conntrack: new Conntrack({ clock: { nowMs: this.#nowMs } }) } : {}),
    });
  }
}
