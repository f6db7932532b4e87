/**
 * Recorded vectors: rulesets of our own, packets, and which rules of a real kernel each packet hit. They let the suites
 * that run without privilege hold the extensions to the kernel; a kernel suite checks that they are still true.
 */
import { readFileSync } from 'node:fs';
import type { Family } from '../../src/net/index.ts';
import { Conntrack } from '../../src/netstack/conntrack/index.ts';
import { createHost, evaluatePacket, parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { worldRouting } from './generate/world.ts';

export interface VectorPacket {
  /** When it came, ms after the first. */
  readonly at: number;
  readonly inDevice: string;
  readonly hex: string;
  /** Ethernet header. */
  readonly ethernet: string;
  readonly packetType: number;
  /** "raw PREROUTING 3 7 policy; filter INPUT policy": rules and policies hit, without what the host's answers hit. */
  readonly hit: string;
}

export interface Vector {
  readonly name: string;
  readonly family: Family;
  readonly stateful: boolean;
  /** Lines of iptables-save. */
  readonly rules: readonly string[];
  readonly packets: readonly VectorPacket[];
}

/** Rules by number, the policy last. */
function byNumber(a: string, b: string): number {
  const rank = (place: string): number => (place === 'policy' ? Number.POSITIVE_INFINITY : Number(place));
  return a === b ? 0 : rank(a) - rank(b);
}

/** Joins "raw PREROUTING 3", "raw PREROUTING policy" chain by chain, in a fixed order. */
export function summarizeHits(hits: readonly string[]): string {
  const chains = new Map<string, string[]>();
  for (const hit of hits) {
    const at = hit.lastIndexOf(' ');
    const chain = hit.slice(0, at);
    chains.set(chain, [...(chains.get(chain) ?? []), hit.slice(at + 1)]);
  }
  return [...chains]
    .map(([chain, places]) => `${chain} ${places.sort(byNumber).join(' ')}`)
    .sort()
    .join('; ');
}

export const VECTORS_FILE: string = new URL('../rules/vectors/extensions.json', import.meta.url).pathname;

export function readVectors(): readonly Vector[] {
  return JSON.parse(readFileSync(VECTORS_FILE, 'utf8')) as Vector[];
}

/** One packet a line, so that a change can be read. */
export function formatVectors(vectors: readonly Vector[]): string {
  const blocks = vectors.map(({ packets, ...head }) => {
    const lines = packets.map((packet) => `  ${JSON.stringify(packet)}`).join(',\n');
    return `${JSON.stringify(head).slice(0, -1)},"packets":[\n${lines}\n]}`;
  });
  return `[\n${blocks.join(',\n')}\n]\n`;
}

/** @throws {Error} when a vector's rules do not parse */
export function parseVector(vector: Vector): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(`${vector.rules.join('\n')}\n`, {
    file: vector.name,
    family: vector.family,
  });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`${vector.name}:${error.span.line}: ${error.message}`);
  return ruleset;
}

/** What each packet hits in the evaluator; stops at the first packet that hits something else than was recorded. */
export function firstDeviation(
  vector: Vector,
  ruleset: Ruleset,
): { packet: number; hit: string } | undefined {
  const clock = { ms: 0 };
  const nowMs = (): number => clock.ms;
  const host = createHost({
    ruleset,
    routing: worldRouting(vector.family),
    nowMs,
    random32: () => 0x7fffffff,
    reassembler: { reassemble: () => undefined },
    ...(vector.stateful ? { conntrack: new Conntrack({ clock: { nowMs } }) } : {}),
  });
  for (const [index, packet] of vector.packets.entries()) {
    clock.ms = packet.at;
    const outcome = evaluatePacket(host, {
      bytes: Uint8Array.from(Buffer.from(packet.hex, 'hex')),
      inDevice: packet.inDevice,
      ethernet: Uint8Array.from(Buffer.from(packet.ethernet, 'hex')),
      packetType: packet.packetType,
    });
    const hit = summarizeHits([
      ...outcome.matched.map(({ table, chain, rule }) => `${table} ${chain} ${rule}`),
      ...outcome.policies.map(({ table, chain }) => `${table} ${chain} policy`),
    ]);
    if (hit !== packet.hit) return { packet: index, hit };
  }
  return undefined;
}
