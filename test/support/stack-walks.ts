/** Recorded walks through a whole netstack: the rules in it as tables, and what leaves it byte for byte. */
import { StackTables } from '../../src/host/index.ts';
import { networkOf } from '../../src/net/index.ts';
import {
  ManualClock,
  NetworkStack,
  NF_DROP,
  NF_INET_LOCAL_OUT,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  Priority,
} from '../../src/netstack/index.ts';
import {
  type MatchExtension,
  needsConntrack,
  type Rule,
  type Ruleset,
  UnsupportedReachedError,
} from '../../src/rules/index.ts';
import {
  flowsOf,
  leave,
  prefixOf,
  type RecordedPacket,
  type RecordedWalk,
  recordedTrace,
  type Trace,
  UnknowableError,
  type WalkEnvironment,
  watchMemories,
} from './walks.ts';

export interface StackWalkPacket {
  readonly index: number;
  readonly packet: Pick<RecordedPacket, 'hex' | 'matched' | 'policy' | 'out'>;
  readonly expected: Trace;
  /** Absent when its way met a rule without semantics or left with a drawn port, or its connection was touched by such a packet. */
  readonly actual: Trace | undefined;
  readonly out: readonly (readonly [device: string, hex: string])[];
}

/** A stack as the recording namespace was set up, with the rules in it; nothing that it makes itself leaves it. */
export class WalkStack {
  readonly clock: ManualClock = new ManualClock();
  readonly stack: NetworkStack;
  #trace: string[] = [];
  #out: [string, string][] = [];
  #draws = 0;

  constructor(ruleset: Ruleset, env: WalkEnvironment) {
    const everything = ruleset.family === 'ipv4' ? '0.0.0.0/0' : '::/0';
    const forwards = /forward(ing)?=1/.test(env.sysctl);
    this.stack = new NetworkStack({
      clock: this.clock,
      random32: () => {
        this.#draws++;
        return 0;
      },
      devices: env.ifaces.map(({ name }) => ({ name })),
      addresses: [
        ...env.ifaces.map(({ name, addr }) => ({ device: name, prefix: prefixOf(addr) })),
        ...env.extra_local.map((text) => {
          const [address, device] = text.split(' on ') as [string, string];
          return { device, prefix: prefixOf(address) };
        }),
      ],
      routes: env.routes.map((route) => {
        const [to, device] = route.split(' dev ') as [string, string];
        return { prefix: networkOf(prefixOf(to === 'default' ? everything : to)), device };
      }),
      settings: { forwarding: { ipv4: forwards, ipv6: forwards } },
      ...(needsConntrack(ruleset) ? { conntrack: {} } : {}),
      transmit: (device, bytes) => this.#out.push([device.name, Buffer.from(bytes).toString('hex')]),
      trace: (event) => {
        // An error that is sent draws its identification, which nobody sees.
        if (event.kind === 'icmp-error' && event.sent) this.#draws--;
      },
    });
    for (const pf of [NFPROTO_IPV4, NFPROTO_IPV6])
      this.stack.net.netfilter.register({
        hook: () => NF_DROP,
        pf,
        hooknum: NF_INET_LOCAL_OUT,
        priority: Priority.RAW - 1,
        name: 'the rule of the recorder',
      });
    new StackTables(this.stack, ruleset, {
      matched: (table, chain, rule) => this.#trace.push(`${table.name} ${chain.name} ${rule.number}`),
      policy: (table, chain) => this.#trace.push(`${table.name} ${chain.name} policy ${chain.policy}`),
    });
  }

  /** @throws {UnsupportedReachedError} or {UnknowableError} when its outcome cannot be told */
  receive(hex: string, device: string): { readonly trace: Trace; readonly out: readonly [string, string][] } {
    this.#trace = [];
    this.#out = [];
    this.#draws = 0;
    const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
    this.stack.receive({ family: bytes[0]! >> 4 === 6 ? 'ipv6' : 'ipv4', bytes }, device);
    // A drawn port shows only in what leaves; of a packet that stays here the kernel's own draw cannot be told either.
    if (this.#draws > 0 && this.#out.length > 0) throw new UnknowableError('what chance decided');
    return { trace: this.#trace.sort(), out: this.#out };
  }
}

/** The record has the sender's times; the kernel counts jiffies of 4 ms, at its own time of arrival. */
const SHIFTS_MS = [0, 8, -8] as const;

type Evaluate = NonNullable<MatchExtension['semantics']>['evaluate'];

/** What a record leaves open and answers itself: two jiffies more or less, and the lots of `statistic --mode random`. */
class Leeway {
  /** Rules that the packet at hand was recorded to hit. */
  recorded: ReadonlySet<string> = new Set();
  /** Decisions that were taken at another time than the recorded one. */
  used = 0;
  /** Lots that fell as recorded. */
  draws = 0;

  /** The same rules, those with a memory of time looked at with leeway. */
  give(ruleset: Ruleset): Ruleset {
    const tables = ruleset.tables.map((table) => ({
      ...table,
      chains: table.chains.map((chain) => ({
        ...chain,
        rules: chain.rules.map((rule, index) => this.#rule(rule, `${table.name} ${chain.name} ${index + 1}`)),
      })),
    }));
    return { ...ruleset, tables };
  }

  #rule(rule: Rule, name: string): Rule {
    const matches = rule.matches.map((use) => {
      const { semantics } = use.extension;
      if (semantics === undefined) return use;
      const drawsLots = use.name === 'statistic' && (use.state as { mode: string }).mode === 'random';
      if (use.name !== 'limit' && !drawsLots) return use;
      const evaluate = drawsLots ? this.#asDrawn(name) : this.#inTime(semantics.evaluate, name);
      return { ...use, extension: { ...use.extension, semantics: { ...semantics, evaluate } } };
    });
    return { ...rule, matches };
  }

  /** The lot that was recorded: where the rule was hit, it has fallen on it. */
  #asDrawn(name: string): Evaluate {
    return () => {
      this.draws++;
      return this.recorded.has(name);
    };
  }

  #inTime(evaluate: Evaluate, name: string): Evaluate {
    return (state, packet, memory) => {
      const at = (shiftMs: number): typeof packet => ({
        ...packet,
        world: { ...packet.world, nowMs: () => packet.world.nowMs() + shiftMs },
      });
      const wanted = this.recorded.has(name);
      const shift = SHIFTS_MS.find(
        (ms) => (evaluate(state, at(ms), structuredClone(memory)) === true) === wanted,
      );
      if (shift !== undefined && shift !== 0) this.used++;
      return evaluate(state, at(shift ?? 0), memory);
    };
  }
}

export interface StackWalkResult {
  readonly packets: readonly StackWalkPacket[];
  /** Decisions of `-m limit` at the edge of a jiffy. */
  readonly leeway: number;
  /** Lots of `-m statistic` that were taken from the record. */
  readonly draws: number;
}

/** Sends all packets of a walk through a fresh stack, at their recorded times. */
export function replayWalkInStack(walk: RecordedWalk, ruleset: Ruleset): StackWalkResult {
  const touched = new Set<string>();
  const stale = new Set<string>();
  const leeway = new Leeway();
  const host = new WalkStack(watchMemories(leeway.give(ruleset), stale), walk.env);
  const packets = walk.packets.map((packet, index): StackWalkPacket => {
    leeway.recorded = new Set(packet.matched.map(([table, chain, number]) => `${table} ${chain} ${number}`));
    host.clock.moveTo(packet.t * 1000);
    const expected = recordedTrace(packet);
    const undecided = { index, packet, expected, actual: undefined, out: [] };
    const bytes = Uint8Array.from(Buffer.from(packet.hex, 'hex'));
    if (flowsOf(bytes).some((flow) => touched.has(flow))) {
      leave(packet, touched, stale);
      return undecided;
    }
    try {
      const { trace, out } = host.receive(packet.hex, packet.in);
      return { index, packet, expected, actual: trace, out };
    } catch (error) {
      if (!(error instanceof UnsupportedReachedError || error instanceof UnknowableError)) throw error;
      leave(packet, touched, stale);
      return undecided;
    }
  });
  return { packets, leeway: leeway.used, draws: leeway.draws };
}
