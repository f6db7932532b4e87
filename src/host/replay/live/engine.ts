/**
 * The rules in the running kernel, met by real packets in a namespace of the replay's own. All that is said of a packet
 * comes from the kernel: its way from the stations that it passed, the rules from the programs' counters. The reference
 * decides each packet, too, for the words of what the stack itself drops, and walks nat tables, which hold no rules here.
 *
 * Connections and waiting fragments age by the kernel's clock, not by the capture's.
 */
import {
  type CompiledPolicy,
  entryIndex,
  GROUP_TABLES,
  type PlacedTable,
  TABLE_GROUPS,
} from '../../../compile/index.ts';
import { HOOK_CHAINS, Hook } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import { baseChain, type EvaluatedTable, type TableName, type TableOutcome } from '../../../rules/index.ts';
import { updateChecksum16 } from '../../../wire/index.ts';
import { Account } from '../account.ts';
import { type Arrival, arrivalOf, destinationOf } from '../arrival.ts';
import type { ReplayPacket } from '../capture.ts';
import { ReplayClock } from '../clock.ts';
import type { CounterReport, Decision, ReplayEngine, ReplayOptions } from '../engine.ts';
import { EvaluationEngine, withCounters } from '../evaluation.ts';
import { DEFAULT_DEVICE, outDevice, replayHost } from '../host.ts';
import { type ExplainedWalk, explainMovement } from '../movement.ts';
import { ReplayPlace } from './place.ts';
import { lostAt, type Station } from './stations.ts';

/** Where a packet that passed the hook is at the end of its way. */
const LAST_HOOKS: ReadonlySet<Hook> = new Set([Hook.LOCAL_IN, Hook.POST_ROUTING]);
const MAXIMUM_HOPS = 255;
/** In an IPv4 header. */
const TTL_AT = 8;
const SUM_AT = 10;

/** A packet that cannot come to FORWARD as it is: the kernel takes one hop off before that. */
export class PacketHopsError extends Error {
  readonly code = 'UNSUPPORTED_PACKET';
  readonly hint = '--engine interpreter asks any hook about any packet';
  constructor(chain: string) {
    super(`a packet with ${MAXIMUM_HOPS} hops to go: the kernel shows it to ${chain} with one less`);
    this.name = 'PacketHopsError';
  }
}

interface Visit {
  readonly table: EvaluatedTable;
  readonly hook: Hook;
  readonly length: number;
  /** Absent: the chain has no program, its packets are only counted. */
  readonly placed: PlacedTable | undefined;
}

export class NamespaceEngine implements ReplayEngine {
  readonly name = 'kernel';
  readonly #policy: CompiledPolicy;
  readonly #options: ReplayOptions;
  readonly #reference: EvaluationEngine;
  readonly #place: ReplayPlace;
  readonly #account: Account;
  readonly #tables: ReadonlyMap<Family, ReadonlyMap<TableName, EvaluatedTable>>;
  /** Attach points that have a program. */
  readonly #programs: ReadonlySet<number>;

  /**
   * @throws {UnsupportedRulesError} when rules cannot be evaluated
   * @throws {KernelError} without privilege, koffi or a kernel that is new enough
   */
  constructor(policy: CompiledPolicy, options: ReplayOptions) {
    this.#policy = policy;
    this.#options = options;
    this.#reference = new EvaluationEngine(options);
    const clock = new ReplayClock();
    this.#tables = new Map(
      options.rulesets.map((ruleset) => [ruleset.family, replayHost(ruleset, options, clock).tables]),
    );
    this.#programs = new Set(policy.programs.map(({ point }) => entryIndex(point)));
    const { vantage } = options;
    const only = vantage.kind === 'chain' ? (HOOK_CHAINS.indexOf(vantage.chain) as Hook) : undefined;
    this.#place = new ReplayPlace(policy, options, only);
    this.#account = new Account(policy, this.#place.policy.readCounters);
  }

  /** @throws {PacketHopsError} */
  decide(packet: ReplayPacket): Decision {
    const reference = this.#reference.decide(packet);
    const arrival = arrivalOf(this.#options, packet);
    if (typeof arrival === 'string') return reference;
    const stations = this.#send(packet, arrival);
    this.#account.read();
    return this.#decide(arrival, stations, reference);
  }

  counters(): readonly CounterReport[] {
    return this.#reference.counters().map(({ family, ruleset }) => {
      const tables = new Map(this.#tables.get(family)!);
      tables.delete('nat');
      return { family, ruleset: withCounters(ruleset, tables) };
    });
  }

  close(): void {
    this.#place.close();
  }

  #send({ ethernet }: ReplayPacket, arrival: Arrival): Station[] {
    const { vantage } = this.#options;
    const { family, inDevice, packetType } = arrival;
    const destination = destinationOf(arrival);
    if (vantage.kind === 'host' ? arrival.sent : vantage.chain === 'OUTPUT') {
      const bound = vantage.kind === 'chain';
      const device = outDevice(
        this.#options,
        destination,
        bound ? inDevice : (this.#options.inDevice ?? DEFAULT_DEVICE),
      );
      return this.#place.send(family, arrival.bytes, destination, device, bound);
    }
    const forwarded = vantage.kind === 'chain' && ['FORWARD', 'POSTROUTING'].includes(vantage.chain);
    const bytes = forwarded ? withOneHopMore(family, arrival.bytes, vantage.chain) : arrival.bytes;
    const frame = { family, bytes, packetType, ...(ethernet === undefined ? {} : { ethernet }) };
    return this.#place.receive(inDevice, frame, isMulticast(destination) ? destination : undefined);
  }

  #decide(arrival: Arrival, stations: readonly Station[], reference: Decision): Decision {
    const matched: [string, string, number][] = [];
    const last = stations.at(-1);
    const walks = new Map<EvaluatedTable, ExplainedWalk[]>();
    const visits = this.#visits(arrival.family, stations);
    let filter: Pick<Decision, 'by' | 'table' | 'chain' | 'rule'> | undefined;
    let latest: typeof filter;
    for (const visit of visits) {
      const outcome = this.#outcome(visit, visits, walks, stations, reference, matched);
      // The stack dropped it between two tables of the hook.
      if (outcome === undefined) break;
      const { kind, chain } = outcome.decision;
      const table = visit.table.name;
      latest =
        kind === 'policy'
          ? { by: kind, table, chain }
          : { by: kind, table, chain, rule: outcome.decision.rule };
      if (table === 'filter') filter = latest;
      if (outcome.verdict === 'ACCEPT') continue;
      if (last?.passed === true) throw new PassedAnywayError(table, chain);
      return { verdict: 'DROP', ...latest, matched };
    }
    const { vantage } = this.#options;
    if (last?.passed === true && (vantage.kind === 'chain' || LAST_HOOKS.has(last.hook))) {
      if (reference.table === 'nat' && filter === undefined) return { ...reference, matched };
      const end = filter ?? latest;
      return end === undefined
        ? { verdict: 'ACCEPT', by: 'none', reason: 'no-chain', matched }
        : { verdict: 'ACCEPT', ...end, matched };
    }
    return { ...this.#lost(arrival, last, reference), matched };
  }

  /** A packet that no rule dropped, and that did not arrive. */
  #lost({ sent }: Arrival, last: Station | undefined, reference: Decision): Decision {
    if (reference.by === 'stack') return reference;
    return { verdict: 'DROP', by: 'stack', reason: this.#reasonOf(last, sent), matched: [] };
  }

  #reasonOf(last: Station | undefined, sent: boolean): string {
    const { vantage } = this.#options;
    if (last !== undefined || vantage.kind === 'host') return lostAt(last, sent);
    return `never-in-${vantage.chain.toLowerCase()}`;
  }

  /** The tables that the packet may have met, in order. */
  #visits(family: Family, stations: readonly Station[]): Visit[] {
    const tables = this.#tables.get(family)!;
    return stations
      .filter(({ passed }) => !passed)
      .flatMap(({ hook, length }) =>
        TABLE_GROUPS.flatMap((group) =>
          GROUP_TABLES[group].flatMap((name): Visit[] => {
            const table = tables.get(name);
            if (table === undefined || baseChain(table, hook) === undefined) return [];
            const runs = this.#programs.has(entryIndex({ flavour: 'netfilter', group, family, hook }));
            const placed = this.#policy.tables.find(({ ir }) => ir.family === family && ir.table === name);
            return [{ table, hook, length, placed: runs ? placed : undefined }];
          }),
        ),
      );
  }

  /** What the table did; `undefined` when the packet never came to it. */
  #outcome(
    visit: Visit,
    visits: readonly Visit[],
    walks: Map<EvaluatedTable, ExplainedWalk[]>,
    stations: readonly Station[],
    reference: Decision,
    matched: [string, string, number][],
  ): TableOutcome | undefined {
    const { table, hook, length, placed } = visit;
    const base = baseChain(table, hook)!;
    if (placed === undefined) {
      base.policyCounters.packets += 1n;
      base.policyCounters.bytes += BigInt(length);
      return {
        verdict: base.policy === 'DROP' ? 'DROP' : 'ACCEPT',
        decision: { kind: 'policy', chain: base.name },
      };
    }
    let left = walks.get(table);
    if (left === undefined) {
      const unread = this.#account.unread && stations.at(-1)?.passed !== true;
      left = this.#explain(
        placed,
        visits.filter((other) => other.table === table),
        unread,
        reference,
      );
      walks.set(table, left);
    }
    const walk = left.shift();
    if (walk === undefined) return undefined;
    return this.#account.carry(table, placed, base, walk, {
      matched: (chain, rule) => matched.push([table.name, chain.name, rule.number]),
    });
  }

  /** One walk for each visit whose chain's counters have moved. */
  #explain(
    placed: PlacedTable,
    visits: readonly Visit[],
    unread: boolean,
    reference: Decision,
  ): ExplainedWalk[] {
    const moved = (counter: number): number => this.#account.movedIn(placed, counter);
    const bases = visits
      .filter((visit) => visit.placed !== undefined)
      .map(({ hook }) => placed.ir.chains.get(HOOK_CHAINS[hook]!)!)
      .filter(
        ({ policy, rules }, index, all) =>
          moved(policy!.counter) > 0 ||
          rules.some(({ counter }) => moved(counter) > 0) ||
          (unread && index === all.length - 1),
      );
    if (bases.length === 0) return [];
    const cannotRead: Parameters<typeof explainMovement>[2]['cannotRead'] = ({ source }) =>
      reference.by === 'hotdrop' &&
      reference.table === source.table &&
      reference.chain === source.chain &&
      reference.rule === source.rule;
    return [...explainMovement(placed.ir, bases, { moved, unread, cannotRead })];
  }
}

/** Thrown when the kernel let a packet pass that a program's counters say was dropped: a defect. */
class PassedAnywayError extends Error {
  constructor(table: string, chain: string) {
    super(`the kernel let a packet pass that ${table} ${chain} dropped`);
    this.name = 'PassedAnywayError';
  }
}

/** The packet as it is one hop earlier. @throws {PacketHopsError} */
function withOneHopMore(family: Family, packet: Uint8Array, chain: string): Uint8Array {
  const at = family === 'ipv4' ? TTL_AT : 7;
  if (packet[at] === MAXIMUM_HOPS) throw new PacketHopsError(chain);
  const bytes = packet.slice();
  const view = new DataView(bytes.buffer);
  const before = view.getUint16(TTL_AT);
  bytes[at]!++;
  if (family === 'ipv4')
    view.setUint16(SUM_AT, updateChecksum16(view.getUint16(SUM_AT), before, view.getUint16(TTL_AT)));
  return bytes;
}

function isMulticast(address: Uint8Array): boolean {
  return address.length === 4 ? address[0]! >> 4 === 0xe : address[0] === 0xff;
}
