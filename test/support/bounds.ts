/**
 * Bounds of what rulesets accept, derived formally from the rules (Diekmann et al., "Verified iptables Firewall Analysis
 * and Verification", JAR 2018): every new connection that a lower bound accepts is accepted, and every one that is
 * accepted is in the upper bound. They are lists of simple rules as `iptables -L -n` prints them.
 */
import { type Prefix, parsePrefix, prefixContainsBytes } from '../../src/net/index.ts';

export interface SimpleRule {
  readonly accept: boolean;
  /** Absent: any. */
  readonly protocol: number | undefined;
  readonly source: Prefix;
  readonly destination: Prefix;
  readonly sourcePorts: readonly [number, number];
  readonly destinationPorts: readonly [number, number];
}

/** A packet as far as simple rules look at it. */
export interface SimplePacket {
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['icmp', 1],
  ['tcp', 6],
  ['udp', 17],
  ['esp', 50],
]);

/** Reads a bound; the last rule of each file matches everything. @throws {Error} on a line it does not know */
export function parseBound(text: string): SimpleRule[] {
  return text
    .split('\n')
    .filter((line) => /^(ACCEPT|DROP) /.test(line))
    .map((line) => {
      const [verdict, protocol, , source, destination, ...rest] = line.trim().split(/\s+/);
      const number = protocol === 'all' ? undefined : (PROTOCOLS.get(protocol!) ?? Number(protocol));
      if (Number.isNaN(number)) throw new Error(`unknown protocol: ${line}`);
      const ranges = { spt: [0, 65_535], dpt: [0, 65_535] } as {
        spt: [number, number];
        dpt: [number, number];
      };
      for (const word of rest.slice(1)) {
        const [, side, min, max] = /^([sd]pt)s?:(\d+)(?::(\d+))?$/.exec(word) ?? [];
        if (side === undefined) throw new Error(`unknown condition ${word}: ${line}`);
        ranges[side as 'spt' | 'dpt'] = [Number(min), Number(max ?? min)];
      }
      return {
        accept: verdict === 'ACCEPT',
        protocol: number,
        source: prefixOf(source!),
        destination: prefixOf(destination!),
        sourcePorts: ranges.spt,
        destinationPorts: ranges.dpt,
      };
    });
}

function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new Error(`not a prefix: ${text}`);
  return prefix;
}

/** The verdict of the first rule that matches; `undefined` when none does. */
export function boundAccepts(rules: readonly SimpleRule[], packet: SimplePacket): boolean | undefined {
  const inRange = (value: number, [min, max]: readonly [number, number]): boolean =>
    value >= min && value <= max;
  return rules.find(
    (rule) =>
      (rule.protocol === undefined || rule.protocol === packet.protocol) &&
      prefixContainsBytes(rule.source, packet.source) &&
      prefixContainsBytes(rule.destination, packet.destination) &&
      inRange(packet.sourcePort, rule.sourcePorts) &&
      inRange(packet.destinationPort, rule.destinationPorts),
  )?.accept;
}
