/**
 * Walks recorded from a real kernel: for each packet sent into a namespace, which rules' counters moved. A recorded
 * walk is replayed in the evaluator with the same addresses, routes and times.
 */
import { networkOf, type Prefix, parsePrefix } from '../../src/net/index.ts';
import { Conntrack, createFib } from '../../src/netstack/index.ts';
import {
  createHost,
  type EvaluationHost,
  evaluatePacket,
  needsConntrack,
  type PacketOutcome,
  parseRuleset,
  type Reassembler,
  type Rule,
  type Ruleset,
  UnsupportedReachedError,
  unsupportedRules,
} from '../../src/rules/index.ts';
import { readSharedJson } from './shared-data.ts';

export interface WalkEnvironment {
  readonly ifaces: readonly { readonly name: string; readonly addr: string }[];
  /** "192.168.31.41/32 on eth0" */
  readonly extra_local: readonly string[];
  /** "default dev eth0", "198.18.0.0/24 dev eth0" */
  readonly routes: readonly string[];
  readonly sysctl: string;
}

export interface RecordedPacket {
  /** Seconds since the rules were loaded. */
  readonly t: number;
  readonly kind: string;
  readonly in: string;
  readonly hex: string;
  readonly matched: readonly (readonly [string, string, number, number?])[];
  readonly policy: readonly (readonly [string, string, string])[];
  readonly out: readonly (readonly [string, string])[];
}

export interface RecordedWalk {
  readonly ruleset: string;
  readonly timed: boolean;
  readonly canonical: string;
  readonly env: WalkEnvironment;
  readonly packets: readonly RecordedPacket[];
}

/** Rules and policies a packet moved, as sortable words: "filter INPUT 3", "filter INPUT policy DROP". */
export type Trace = readonly string[];

export function readWalk(file: string): RecordedWalk {
  return readSharedJson<RecordedWalk>('kernel-walks', file);
}

/** The recorder silenced local replies by a rule of its own in raw OUTPUT, so every namespace had a raw table. */
const RAW_TABLE = '*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n';

/** @throws {Error} when a recorded ruleset does not parse: that is a defect of the parser, not of the record. */
export function parseWalkRules(file: string, text: string): Ruleset {
  const { ruleset, diagnostics } = parseRuleset(/^\*raw$/m.test(text) ? text : text + RAW_TABLE, {
    file,
    family: file.startsWith('v6_') ? 'ipv6' : 'ipv4',
  });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`${file}:${error.span.line}: ${error.message}`);
  return ruleset;
}

/** Only rules that can be evaluated, and none that translates. */
export function isFirstTier(ruleset: Ruleset): boolean {
  return unsupportedRules(ruleset).length === 0;
}

export function recordedTrace(packet: Pick<RecordedPacket, 'matched' | 'policy'>): Trace {
  const rules = packet.matched.flatMap(([table, chain, number, times]) =>
    new Array<string>(times ?? 1).fill(`${table} ${chain} ${number}`),
  );
  const policies = packet.policy.map(([table, chain, verdict]) => `${table} ${chain} policy ${verdict}`);
  return [...rules, ...policies].sort();
}

export function outcomeTrace(outcome: Pick<PacketOutcome, 'matched' | 'policies'>): Trace {
  const rules = outcome.matched.map(({ table, chain, rule }) => `${table} ${chain} ${rule}`);
  const policies = outcome.policies.map(({ table, chain, verdict }) => `${table} ${chain} policy ${verdict}`);
  return [...rules, ...policies].sort();
}

export function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new Error(`not a prefix: ${text}`);
  return prefix;
}

/** A packet met a rule whose outcome the record does not tell: it draws lots, or its memory is not that of the kernel. */
export class UnknowableError extends Error {
  constructor(reason: string) {
    super(`a recorded walk cannot tell: ${reason}`);
    this.name = 'UnknowableError';
  }
}

/** What rules that share one memory have in common. */
function sharedName({ name, state }: Rule['matches'][number]): string | undefined {
  return name === 'recent' || name === 'hashlimit'
    ? `${name} ${(state as { name: string }).name}`
    : undefined;
}

/** Names of the rules that share a memory, by {@link sharedName}. */
function sharersOf(ruleset: Ruleset): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const table of ruleset.tables)
    for (const chain of table.chains)
      for (const [index, rule] of chain.rules.entries())
        for (const use of rule.matches) {
          const shared = sharedName(use);
          if (shared === undefined) continue;
          found.set(shared, [...(found.get(shared) ?? []), `${table.name} ${chain.name} ${index + 1}`]);
        }
  return found;
}

/** The same rules; those in `stale` that have a memory throw {@link UnknowableError} when a packet comes to it. */
export function watchMemories(ruleset: Ruleset, stale: ReadonlySet<string>): Ruleset {
  const namesBy = sharersOf(ruleset);
  const watch = (rule: Rule, name: string): Rule => ({
    ...rule,
    matches: rule.matches.map((use) => {
      const { semantics } = use.extension;
      if (semantics?.memory === undefined) return use;
      const shared = sharedName(use);
      const sharers = shared === undefined ? [name] : namesBy.get(shared)!;
      const evaluate: typeof semantics.evaluate = (...given) => {
        if (sharers.some((sharer) => stale.has(sharer))) throw new UnknowableError(`the memory of ${name}`);
        return semantics.evaluate(...given);
      };
      return { ...use, extension: { ...use.extension, semantics: { ...semantics, evaluate } } };
    }),
  });
  return {
    ...ruleset,
    tables: ruleset.tables.map((table) => ({
      ...table,
      chains: table.chains.map((chain) => ({
        ...chain,
        rules: chain.rules.map((rule, index) => watch(rule, `${table.name} ${chain.name} ${index + 1}`)),
      })),
    })),
  };
}

/** A host as the recording namespace was set up. `clock.nowMs` is moved by the replay. */
export function walkHost(
  ruleset: Ruleset,
  env: WalkEnvironment,
  clock: { nowMs: number },
  options: { readonly unsupported: 'refuse' | 'when-reached'; readonly reassembler?: Reassembler },
): EvaluationHost {
  const everything = ruleset.family === 'ipv4' ? '0.0.0.0/0' : '::/0';
  const extra = env.extra_local.map((text) => text.split(' on ') as [string, string]);
  const nowMs = (): number => clock.nowMs;
  return createHost({
    ruleset,
    routing: createFib({
      family: ruleset.family,
      addresses: [
        ...env.ifaces.map(({ name, addr }) => ({ device: name, prefix: prefixOf(addr) })),
        ...extra.map(([address, device]) => ({ device, prefix: prefixOf(address) })),
      ],
      routes: env.routes.map((route) => {
        const [to, device] = route.split(' dev ') as [string, string];
        return { prefix: networkOf(prefixOf(to === 'default' ? everything : to)), device };
      }),
      forwarding: /forward(ing)?=1/.test(env.sysctl),
      rpFilter: 0,
    }),
    nowMs,
    random32: () => {
      throw new UnknowableError('what chance decided');
    },
    ...(needsConntrack(ruleset) ? { conntrack: new Conntrack({ clock: { nowMs } }) } : {}),
    ...(options.reassembler === undefined ? {} : { reassembler: options.reassembler }),
    unsupported: options.unsupported,
  });
}

export interface ReplayedPacket {
  readonly index: number;
  readonly packet: RecordedPacket;
  readonly expected: Trace;
  /** Absent when its way met a rule that cannot be evaluated, or its connection was touched by such a packet. */
  readonly actual: Trace | undefined;
  readonly outcome: PacketOutcome | undefined;
}

/** Sends all packets of a walk through a fresh host, at their recorded times. */
export function replayWalk(
  walk: RecordedWalk,
  ruleset: Ruleset,
  unsupported: 'refuse' | 'when-reached',
): ReplayedPacket[] {
  const clock = { nowMs: 0 };
  const touched = new Set<string>();
  const stale = new Set<string>();
  const host = walkHost(watchMemories(ruleset, stale), walk.env, clock, { unsupported });
  return walk.packets.map((packet, index) => {
    clock.nowMs = packet.t * 1000;
    const expected = recordedTrace(packet);
    const bytes = Uint8Array.from(Buffer.from(packet.hex, 'hex'));
    const undecided = { index, packet, expected, actual: undefined, outcome: undefined };
    if (flowsOf(bytes).some((flow) => touched.has(flow))) {
      leave(packet, touched, stale);
      return undecided;
    }
    try {
      const outcome = evaluatePacket(host, { bytes, inDevice: packet.in });
      return { index, packet, expected, actual: outcomeTrace(outcome), outcome };
    } catch (error) {
      if (!(error instanceof UnsupportedReachedError || error instanceof UnknowableError)) throw error;
      leave(packet, touched, stale);
      return undecided;
    }
  });
}

/**
 * Passes over a packet that cannot be decided: from here on it is unknown what conntrack knows of its connection,
 * translated or not, and what the rules it hit remember.
 */
export function leave(packet: RecordedPacket, touched: Set<string>, stale: Set<string>): void {
  for (const [table, chain, number] of packet.matched) stale.add(`${table} ${chain} ${number}`);
  for (const hex of [packet.hex, ...packet.out.map(([, sent]) => sent)]) {
    for (const flow of flowsOf(Uint8Array.from(Buffer.from(hex, 'hex')))) touched.add(flow);
  }
}

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** A name for the connection, the same for both directions; for ICMP errors that of the packet they speak of, too. */
export function flowsOf(bytes: Uint8Array): string[] {
  const ipv4 = bytes[0]! >> 4 === 4;
  const protocol = ipv4 ? bytes[9]! : bytes[6]!;
  const at = ipv4 ? (bytes[0]! & 15) * 4 : 40;
  const [from, length] = ipv4 ? [12, 4] : [8, 16];
  const port = (offset: number): number => ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
  const icmp = protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6;
  const ends = [0, 1].map((side) => {
    const address = bytes.subarray(from + side * length, from + (side + 1) * length);
    return `${address.join('.')}:${icmp ? port(at + 4) : port(at + 2 * side)}`;
  });
  const own = `${protocol} ${ends.sort().join(' ')}`;
  const isError =
    icmp && (protocol === IPPROTO_ICMP ? [3, 4, 5, 11, 12].includes(bytes[at]!) : bytes[at]! < 128);
  const quoted = bytes.subarray(at + 8);
  return isError && quoted.length >= (ipv4 ? 28 : 48) ? [own, ...flowsOf(quoted)] : [own];
}
