/** Recorded walks as replays: the same packets for any engine. */
import { CompileError } from '../../src/compile/index.ts';
import type { Decision, ReplayEngine, ReplayOptions, ReplayPacket } from '../../src/host/index.ts';
import { networkOf } from '../../src/net/index.ts';
import { type Ruleset, UnsupportedRulesError } from '../../src/rules/index.ts';
import { prefixOf, type RecordedWalk } from './walks.ts';
import { xorshift } from './xorshift.ts';

/** A walk's host, as a replay describes one. */
export function walkOptions({ env }: RecordedWalk, ruleset: Ruleset): ReplayOptions {
  const everything = ruleset.family === 'ipv4' ? '0.0.0.0/0' : '::/0';
  const addresses = [
    ...env.ifaces.map(({ addr }) => addr),
    ...env.extra_local.map((text) => text.split(' on ')[0]!),
  ];
  return {
    rulesets: [ruleset],
    vantage: { kind: 'host', local: addresses.map((text) => prefixOf(text.split('/')[0]!)) },
    routes: env.routes.map((route) => {
      const [to, device] = route.split(' dev ') as [string, string];
      return { prefix: networkOf(prefixOf(to === 'default' ? everything : to)), device };
    }),
    verifyChecksums: false,
    random32: xorshift(7),
  };
}

export function walkPackets(walk: RecordedWalk, ruleset: Ruleset): ReplayPacket[] {
  return walk.packets.map((packet, index) => {
    const bytes = Uint8Array.from(Buffer.from(packet.hex, 'hex'));
    return {
      number: index + 1,
      timeMs: packet.t * 1000,
      linkType: 101,
      device: packet.in,
      frame: bytes,
      ip: { family: ruleset.family, bytes, cut: false },
      packetType: 0,
      tagged: false,
    };
  });
}

/** The engine, or `undefined` where it refuses the rules. */
export function engineFor<E extends ReplayEngine>(make: () => E): E | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof CompileError || error instanceof UnsupportedRulesError) return undefined;
    throw error;
  }
}

export interface Disagreement {
  readonly packet: number;
  readonly expected: Decision;
  readonly actual: Decision;
}

/** Packets that two engines decide differently, in any word of the decision. */
export async function disagreements(
  reference: ReplayEngine,
  engine: ReplayEngine,
  packets: readonly ReplayPacket[],
): Promise<Disagreement[]> {
  const found: Disagreement[] = [];
  for (const packet of packets) {
    const expected = await reference.decide(packet);
    const actual = await engine.decide(packet);
    if (JSON.stringify(expected) !== JSON.stringify(actual))
      found.push({ packet: packet.number, expected, actual });
  }
  return found;
}
