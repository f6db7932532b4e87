/**
 * A packet's whole way through a host: tables in hook order, with conntrack, reassembly and routing between them
 * (NF_IP_PRI_* of uapi/linux/netfilter_ipv4.h; ip_rcv, ip_forward, ip_output and their IPv6 twins).
 *
 * NAT is transparent: nat tables are walked where the kernel walks them (the first packet of a connection), but a
 * rule that would translate has no semantics and is refused before anything runs. Not modelled: MTUs (a forwarded packet
 * that is too large meets no FORWARD rule in the kernel), and what the host itself answers.
 */
import type { Family } from '../../net/index.ts';
import type { SharedMemories } from '../extension.ts';
import type { Rule, Ruleset, TableName } from '../model.ts';
import type { PlainSet } from '../sets/plain.ts';
import type { ConnectionLookup, ConntrackView, EvaluationPacket } from './packet.ts';
import { type EvaluatedTable, prepareTable, UnsupportedRulesError, unsupportedRules } from './prepared.ts';
import type { Routing } from './routing.ts';
import { evaluateTable, type TableOutcome, type WalkObserver } from './walk.ts';

/** What conntrack said, with the identity of the connection: one object for all packets of it. */
export interface TrackedView extends ConntrackView {
  readonly connection: object | undefined;
}

/** Connection tracking as the evaluator uses it; `Conntrack` of the netstack is one. */
export interface ConnectionTracker extends ConnectionLookup {
  /** At -200 of PRE_ROUTING and LOCAL_OUT. */
  track(packet: {
    readonly family: Family;
    readonly bytes: Uint8Array;
    readonly hook: 'pre-routing' | 'local-out';
  }): TrackedView | 'drop';
  /** After all hooks of LOCAL_IN and POST_ROUTING; false: drop the packet. */
  confirm(view: TrackedView): boolean;
}

/**
 * Reassembly as the evaluator uses it: takes one fragment, returns the datagram that it completes, or `undefined`
 * while fragments are missing or when it was dropped. `before-conntrack` is nf_defrag at -400; `delivery` is
 * ip_local_deliver, which IPv4 alone does before LOCAL_IN.
 */
export interface Reassembler {
  reassemble(
    fragment: Piece,
    family: Family,
    where: 'before-conntrack' | 'delivery',
    inDevice: string,
  ): Piece | undefined;
}

/** A fragment or what came of it: all but the device is that of the fragment at offset 0 (skb_morph). */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly ethernet: Uint8Array | undefined;
  readonly packetType: number;
  readonly mark: number;
}

/**
 * Decides a packet by one table at the packet's hook, moves the table's counters and the packet's mark, and tells the
 * observer what it did; `undefined` when the table has no chain there. {@link evaluateTable} is one.
 */
export type RunTable = (
  table: EvaluatedTable,
  packet: EvaluationPacket,
  observer: WalkObserver,
) => TableOutcome | undefined;

export interface HostOptions {
  readonly ruleset: Ruleset;
  readonly routing: Routing;
  /** Milliseconds, monotonic. */
  readonly nowMs: () => number;
  /** Milliseconds since 1970, UTC; default: `nowMs` is that. */
  readonly wallMs?: () => number;
  /** 32 random bits for `statistic --mode random`. */
  readonly random32: () => number;
  /** Leave out where nothing needs it: see {@link needsConntrack}. Rules then see INVALID, as in a namespace without it. */
  readonly conntrack?: ConnectionTracker;
  /** Without it fragments that would have to be reassembled are dropped with the reason `no-reassembly`. */
  readonly reassembler?: Reassembler;
  /**
   * `refuse` (default): a ruleset with rules that cannot be evaluated is refused as a whole. `when-reached`: a packet
   * whose way meets such a rule throws {@link UnsupportedReachedError}; all others are decided.
   */
  readonly unsupported?: 'refuse' | 'when-reached';
  /** IP sets that rules name. */
  readonly sets?: ReadonlyMap<string, PlainSet>;
  /** What runs the tables; default: {@link evaluateTable}. */
  readonly runTable?: RunTable;
}

/** One family's tables and the world around them. Counters and memories of the rules live here. */
export interface EvaluationHost {
  readonly family: Family;
  readonly tables: ReadonlyMap<TableName, EvaluatedTable>;
  readonly routing: Routing;
  readonly conntrack: ConnectionTracker | undefined;
  readonly reassembler: Reassembler | undefined;
  /** Fragments are put together before the tables. */
  readonly defragments: boolean;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
  readonly random32: () => number;
  readonly runTable: RunTable;
  readonly sets: ReadonlyMap<string, PlainSet> | undefined;
  /** Which connections the nat table has been asked about, by side. */
  readonly translated: { readonly source: WeakSet<object>; readonly destination: WeakSet<object> };
}

/** @throws {UnsupportedRulesError} listing every rule without semantics, unless they are allowed. */
export function createHost(options: HostOptions): EvaluationHost {
  const { ruleset } = options;
  if (options.unsupported !== 'when-reached') {
    const refused = unsupportedRules(ruleset, false, options.sets);
    if (refused.length > 0) throw new UnsupportedRulesError(refused);
  }
  const shared: SharedMemories = new Map();
  return {
    family: ruleset.family,
    tables: new Map(
      ruleset.tables.map((table) => [
        table.name,
        prepareTable(table, ruleset.family, options.nowMs(), shared),
      ]),
    ),
    routing: options.routing,
    conntrack: options.conntrack,
    reassembler: options.reassembler,
    defragments: options.conntrack !== undefined || needsDefragmentation(ruleset),
    nowMs: options.nowMs,
    wallMs: options.wallMs ?? options.nowMs,
    random32: options.random32,
    runTable: options.runTable ?? evaluateTable,
    sets: options.sets,
    translated: { source: new WeakSet(), destination: new WeakSet() },
  };
}

/** Matches and targets whose presence switches conntrack on in a namespace (nf_ct_netns_get in their checkentry). */
const CONNTRACK_USERS: ReadonlySet<string> = new Set([
  'state',
  'cluster',
  'conntrack',
  'connbytes',
  'connlabel',
  'connlimit',
  'connmark',
  'helper',
  'CONNMARK',
  'CONNSECMARK',
  'CT',
  'DNAT',
  'MASQUERADE',
  'NETMAP',
  'REDIRECT',
  'SNAT',
  'SYNPROXY',
]);

/** Those whose presence has fragments put together before the tables (nf_defrag_ipv4_enable in their checkentry). */
const DEFRAGMENTATION_USERS: ReadonlySet<string> = new Set(['socket', 'TPROXY']);

/** True when the kernel would track connections because of these rules. */
export function needsConntrack(ruleset: RuleTree): boolean {
  return usesAny(ruleset, CONNTRACK_USERS);
}

/** True when rules never see fragments because of these rules, whether connections are tracked or not. */
export function needsDefragmentation(ruleset: RuleTree): boolean {
  return usesAny(ruleset, DEFRAGMENTATION_USERS);
}

/** As much of a ruleset as its rules are. */
interface RuleTree {
  readonly tables: readonly { readonly chains: readonly { readonly rules: readonly Rule[] }[] }[];
}

function usesAny(ruleset: RuleTree, names: ReadonlySet<string>): boolean {
  return ruleset.tables.some((table) =>
    table.chains.some((chain) =>
      chain.rules.some(
        ({ matches, target }) =>
          matches.some(({ extension }) => names.has(extension.name)) ||
          (target?.kind === 'extension' && names.has(target.extension.name)),
      ),
    ),
  );
}
