/** The netstack as a replay engine: every packet goes the whole path through a host, on a clock that follows the capture. */
import type { Family } from '../../net/index.ts';
import { NetworkStack, PacketType } from '../../netstack/index.ts';
import {
  type ExplainedStep,
  needsConntrack,
  placesInOrder,
  plainSets,
  type Ruleset,
  type SendingSocket,
  type SetContents,
  UnsupportedRulesError,
  unsupportedRules,
} from '../../rules/index.ts';
import { restoreConnections } from '../netstack/connections.ts';
import type { HostSettings } from '../netstack/settings.ts';
import { StackTables } from '../netstack/tables.ts';
import type { ReplayPacket } from './capture.ts';
import { ReplayClock } from './clock.ts';
import { Course } from './course.ts';
import type { CounterReport, Decision, ReplayEngine } from './engine.ts';
import { withCounters } from './evaluation.ts';

export interface NetstackReplayOptions {
  readonly rulesets: readonly Ruleset[];
  /** IP sets that rules name. */
  readonly sets?: readonly SetContents[];
  readonly host: HostSettings;
  /** Device that packets come in by; absent: the one that the capture names where the host has it, else the first but lo. */
  readonly inDevice?: string;
  readonly verifyChecksums: boolean;
  /** For `statistic --mode random`, and for ports where the kernel draws them. */
  readonly random32: () => number;
  /** Who sent the packets of this host; absent: they come from no socket. */
  readonly sender?: SendingSocket;
}

/** What a whole path says about one packet: stations, rules, and one sentence. */
export interface PathExplanation {
  readonly steps: readonly ExplainedStep[];
  readonly outcome: { readonly verdict: 'ACCEPT' | 'DROP' };
  readonly sentence: string;
}

/** Decides by all that a host does, translation included. */
export class NetstackEngine implements ReplayEngine {
  readonly name = 'netstack';
  readonly #options: NetstackReplayOptions;
  readonly #clock: ReplayClock = new ReplayClock();
  readonly #stack: NetworkStack;
  readonly #tables: readonly { readonly ruleset: Ruleset; readonly tables: StackTables }[];
  #course: Course = new Course();
  #restored = false;

  /** @throws {UnsupportedRulesError} when a ruleset has rules that not even a whole host can run */
  constructor(options: NetstackReplayOptions) {
    this.#options = options;
    const { rulesets, host, verifyChecksums, random32 } = options;
    const refused = rulesets.flatMap((ruleset) =>
      unsupportedRules(ruleset, true, placesInOrder(options.sets)),
    );
    if (refused.length > 0) throw new UnsupportedRulesError(refused);
    const checksum = verifyChecksums && host.conntrack.checksum !== false;
    this.#stack = new NetworkStack({
      clock: this.#clock,
      wallMs: () => this.#clock.wallMs(),
      random32,
      devices: host.devices,
      addresses: host.addresses,
      routes: host.routes,
      settings: host.path,
      ...(rulesets.some(needsConntrack) ? { conntrack: { ...host.conntrack, checksum } } : {}),
      trace: (event) => this.#course.take(event),
    });
    const observer = Course.observer(() => this.#course);
    const surroundings = { sets: plainSets(options.sets), wallMs: () => this.#clock.wallMs() };
    this.#tables = rulesets.map((ruleset) => ({
      ruleset,
      tables: new StackTables(this.#stack, ruleset, observer, surroundings),
    }));
  }

  decide(packet: ReplayPacket): Decision {
    const reason = this.#take(packet);
    if (reason !== undefined) return { verdict: 'ACCEPT', by: 'none', reason, matched: [] };
    return this.#course.decision;
  }

  /** Decides the packet and tells every station of its way; a word where it has none. */
  explain(packet: ReplayPacket): PathExplanation | string {
    const reason = this.#take(packet);
    if (reason !== undefined) return reason;
    const { steps, sentence, decision } = this.#course;
    return {
      steps,
      outcome: { verdict: decision.verdict === 'ACCEPT' ? 'ACCEPT' : 'DROP' },
      sentence,
    };
  }

  counters(): readonly CounterReport[] {
    return this.#tables.map(({ ruleset, tables }) => ({
      family: ruleset.family,
      ruleset: withCounters(ruleset, tables.tables),
    }));
  }

  close(): void {
    this.#stack.net.destroy();
  }

  /** Sends the packet on its way; a word when it is none that a host would take. */
  #take(packet: ReplayPacket): string | undefined {
    const { ip, tagged, ethernet, packetType, device } = packet;
    this.#clock.take(packet);
    this.#restoreOnce();
    if (ip === undefined) return 'not-ip';
    if (tagged) return 'vlan';
    this.#course = new Course();
    const { family, bytes } = ip;
    const sent = packetType === PacketType.OUTGOING || this.#isOwn(family, bytes);
    if (sent) this.#stack.send({ family, bytes, sender: this.#options.sender });
    else this.#stack.receive({ family, bytes, mac: ethernet, pktType: packetType }, this.#inDevice(device));
    return undefined;
  }

  /** The connections of the host are as old as the first packet is: their time runs from there. */
  #restoreOnce(): void {
    if (this.#restored) return;
    this.#restored = true;
    const { conntrack } = this.#stack;
    if (conntrack !== undefined) restoreConnections(conntrack, this.#options.host.connections);
  }

  /** What has an address of the host as its source was captured on its way out. */
  #isOwn(family: Family, bytes: Uint8Array): boolean {
    const source = family === 'ipv4' ? bytes.subarray(12, 16) : bytes.subarray(8, 24);
    return this.#options.host.addresses.some(
      ({ prefix: { address } }) =>
        address.family === family && address.bytes.every((byte, index) => byte === source[index]),
    );
  }

  #inDevice(captured: string | undefined): string {
    const { inDevice, host } = this.#options;
    if (inDevice !== undefined) return inDevice;
    if (captured !== undefined && this.#stack.deviceByName(captured) !== undefined) return captured;
    return host.devices.find(({ name }) => name !== 'lo')?.name ?? 'lo';
  }
}
