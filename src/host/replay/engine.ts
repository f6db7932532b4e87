/** What decides packets in a replay, whatever runs underneath: the evaluator, an interpreter, the kernel. */
import type { Family, Prefix } from '../../net/index.ts';
import type { Ruleset, SendingSocket, SetContents, TableName } from '../../rules/index.ts';
import type { ReplayPacket } from './capture.ts';

/** Where the packets of a capture stand in relation to this host. */
export type Vantage =
  /** Every packet is asked at this one hook. */
  | { readonly kind: 'chain'; readonly chain: string }
  /** Addressed to one of these prefixes: in; sent from one: out; else forwarded. None given: everything is for us. */
  | { readonly kind: 'host'; readonly local: readonly Prefix[] };

export interface ReplayOptions {
  readonly rulesets: readonly Ruleset[];
  /** IP sets that rules name, one for all families. */
  readonly sets?: readonly SetContents[];
  readonly vantage: Vantage;
  /** Device that packets come in by; absent: the one that the capture names, else eth0. */
  readonly inDevice?: string;
  /** Where packets go out, longest prefix first; what no prefix covers leaves by the device it came in by. */
  readonly routes: readonly { readonly prefix: Prefix; readonly device: string }[];
  /** Connections tell bad transport checksums apart; captures of a sending host are full of unfinished ones. */
  readonly verifyChecksums: boolean;
  /** For `statistic --mode random`. */
  readonly random32: () => number;
  /** Who sent the packets of this host; absent: they come from no socket. */
  readonly sender?: SendingSocket;
}

/**
 * - `rule`, `policy`: a table decided
 * - `hotdrop`: a rule's match could not read the packet
 * - `stack`: the host itself dropped or held it; `reason` says why
 * - `none`: no rule was asked; `reason` says why it passes
 */
export interface Decision {
  readonly verdict: 'ACCEPT' | 'DROP' | 'HELD';
  readonly by: 'rule' | 'policy' | 'hotdrop' | 'stack' | 'none';
  readonly table?: TableName;
  readonly chain?: string;
  /** From 1; for `rule` and `hotdrop`. */
  readonly rule?: number;
  readonly reason?: string;
  readonly matched: readonly (readonly [table: string, chain: string, rule: number])[];
}

/** Counters of one family: those of the ruleset's own rules and policies, in its order. */
export interface CounterReport {
  readonly family: Family;
  readonly ruleset: Ruleset;
}

export interface ReplayEngine {
  readonly name: string;
  decide(packet: ReplayPacket): Decision | Promise<Decision>;
  /** Rulesets with the counters that the packets so far have moved. */
  counters(): readonly CounterReport[] | Promise<readonly CounterReport[]>;
  close(): void | Promise<void>;
}
