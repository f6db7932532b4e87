/**
 * Tables of iptables as hook functions of a netstack: at the kernel's priorities, the nat table behind the nat hooks.
 * Sources: net/ipv4/netfilter/iptable_*.c and their IPv6 twins.
 */
import type { Hook } from '../../ir/index.ts';
import {
  ETH_P_IP,
  findPacketSocket,
  type NetworkStack,
  NF_ACCEPT,
  NF_DROP,
  NF_INET_LOCAL_OUT,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  type NfHookOps,
  type NfHookState,
  nfDropErr,
  nfQueueNr,
  Priority,
  routeOutput,
  type SkBuff,
  Tracking,
} from '../../netstack/index.ts';
import {
  type ConntrackView,
  type EvaluatedChain,
  type EvaluatedRule,
  type EvaluatedTable,
  type EvaluationPacket,
  evaluateTable,
  type LogEntry,
  needsDefragmentation,
  type PlainSet,
  prepareTable,
  type ReceivingSocket,
  type RuleFailure,
  type Ruleset,
  type SharedMemories,
  TABLE_HOOKS,
  type TableName,
  type TableOutcome,
  transportPosition,
  type World,
} from '../../rules/index.ts';
import { StackPacketHost } from './packet-host.ts';

/** Told of every rule that a packet met, in order. */
export interface TableObserver {
  matched?(table: EvaluatedTable, chain: EvaluatedChain, rule: EvaluatedRule, packet: EvaluationPacket): void;
  missed?(
    table: EvaluatedTable,
    chain: EvaluatedChain,
    rule: EvaluatedRule,
    failure: RuleFailure,
    packet: EvaluationPacket,
  ): void;
  policy?(table: EvaluatedTable, chain: EvaluatedChain): void;
  decided?(table: EvaluatedTable, hook: Hook, outcome: TableOutcome): void;
  log?(entry: LogEntry): void;
}

/** What rules may ask about that is not the stack's. */
export interface TableSurroundings {
  readonly sets?: ReadonlyMap<string, PlainSet> | undefined;
  /** Milliseconds since 1970, UTC; default: the stack's clock is that. */
  readonly wallMs?: (() => number) | undefined;
}

const PRIORITIES: Readonly<Record<Exclude<TableName, 'nat'>, number>> = {
  raw: Priority.RAW,
  mangle: Priority.MANGLE,
  filter: Priority.FILTER,
  security: Priority.SECURITY,
};

/** The tables of one family in a stack. */
export class StackTables {
  readonly tables: ReadonlyMap<TableName, EvaluatedTable>;
  readonly #stack: NetworkStack;
  readonly #ruleset: Ruleset;
  readonly #observer: TableObserver;
  readonly #world: World;

  constructor(
    stack: NetworkStack,
    ruleset: Ruleset,
    observer: TableObserver = {},
    { sets, wallMs }: TableSurroundings = {},
  ) {
    this.#stack = stack;
    this.#ruleset = ruleset;
    this.#observer = observer;
    const { clock } = stack.net;
    const shared: SharedMemories = new Map();
    this.#world = {
      nowMs: () => clock.nowMs(),
      wallMs: wallMs ?? (() => clock.nowMs()),
      random32: stack.random32,
      addressType: (address, device) => stack.fib(ruleset.family)!.addressType(address, device),
      outputDevice: (destination) => stack.fib(ruleset.family)!.output(destination),
      connections: stack.conntrack,
      findSocket: (packet) => socketOf(stack, packet),
      sets,
    };
    this.tables = new Map(
      ruleset.tables.map((table) => [table.name, prepareTable(table, ruleset.family, clock.nowMs(), shared)]),
    );
    if (needsDefragmentation(ruleset)) stack.net.defrag.enable(ruleset.family);
    for (const table of this.tables.values()) this.#register(table);
  }

  #register(table: EvaluatedTable): void {
    const pf = this.#ruleset.family === 'ipv4' ? NFPROTO_IPV4 : NFPROTO_IPV6;
    for (const hooknum of TABLE_HOOKS[table.name]) {
      const ops = (priority: number): NfHookOps => ({
        hook: (_priv, skb, state) => this.#run(table, skb, state),
        pf,
        hooknum,
        priority,
        name: `iptable_${table.name}`,
      });
      if (table.name !== 'nat') this.#stack.net.netfilter.register(ops(PRIORITIES[table.name]));
      // Without conntrack there are no connections to ask the nat table about.
      else this.#stack.natHooks?.register(ops(0));
    }
  }

  #run(table: EvaluatedTable, skb: SkBuff, state: NfHookState): number {
    const packet = this.#packet(skb, state);
    const key = table.name === 'mangle' && state.hook === NF_INET_LOCAL_OUT ? routingKey(skb) : undefined;
    const outcome = evaluateTable(table, packet, {
      matched: (chain, rule) => this.#observer.matched?.(table, chain, rule, packet),
      missed: (chain, rule, failure) => this.#observer.missed?.(table, chain, rule, failure, packet),
      policy: (chain) => this.#observer.policy?.(table, chain),
    });
    if (outcome === undefined) return NF_ACCEPT;
    this.#observer.decided?.(table, packet.hook, outcome);
    skb.mark = packet.mark;
    if (outcome.verdict === 'QUEUE')
      return nfQueueNr(outcome.queue?.queue ?? 0, outcome.queue?.bypass ?? false);
    if (outcome.verdict === 'DROP') return NF_DROP;
    if (key === undefined || key === routingKey(skb)) return NF_ACCEPT;
    // What the route was chosen by has changed (ipt_mangle_out).
    const error = routeOutput(this.#stack, skb);
    return error < 0 ? nfDropErr(-error) : NF_ACCEPT;
  }

  #packet(skb: SkBuff, state: NfHookState): EvaluationPacket {
    const { family } = this.#ruleset;
    const host = new StackPacketHost(this.#stack, skb, state);
    const packet: EvaluationPacket = {
      family,
      bytes: skb.data,
      length: skb.data.length,
      hook: state.hook as Hook,
      inDevice: state.in?.name ?? '',
      outDevice: state.out?.name ?? '',
      ...transportPosition(family, skb.data),
      ethernet: skb.mac,
      packetType: skb.pktType,
      mark: skb.mark,
      conntrack: viewOf(this.#stack, skb),
      sender: skb.sender,
      world: this.#world,
      host,
      log: (entry) => this.#observer.log?.(entry),
    };
    host.packet = packet;
    return packet;
  }
}

function socketOf(
  stack: NetworkStack,
  { family, bytes, inDevice, conntrack }: EvaluationPacket,
): ReceivingSocket | undefined {
  const { sockets } = stack;
  if (sockets === undefined) return undefined;
  const tracking = conntrack instanceof Tracking ? conntrack : undefined;
  const ingressIfindex = stack.deviceByName(inDevice)?.ifindex ?? 0;
  const found = findPacketSocket(sockets, { family, bytes, ingressIfindex, tracking });
  if (found === undefined) return undefined;
  const { transparent, mark, localAddress } = found;
  return { transparent, mark, wildcard: localAddress.every((byte) => byte === 0) };
}

function viewOf(stack: NetworkStack, skb: SkBuff): ConntrackView | undefined {
  if (skb.nfct instanceof Tracking) return skb.nfct;
  return skb.untracked ? stack.conntrack?.untracked() : undefined;
}

/** Addresses, mark and service type: a packet of this host is routed by them. */
function routingKey({ data, mark, protocol }: SkBuff): string {
  return protocol === ETH_P_IP
    ? `${mark} ${data[1]} ${data.subarray(12, 20)}`
    : `${mark} ${data.subarray(0, 4)} ${data.subarray(8, 40)}`;
}
