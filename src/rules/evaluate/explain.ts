/** `--explain`: a packet's way in words: each rule looked at, the first condition that failed, one sentence at the end. */
import { HOOK_CHAINS } from '../../ir/index.ts';
import type { Rule } from '../model.ts';
import { describeBaseFailure } from './base.ts';
import type { EvaluationHost } from './host.ts';
import type { EvaluationPacket } from './packet.ts';
import {
  evaluateHook,
  evaluatePacket,
  type HookInput,
  type PacketInput,
  type PacketOutcome,
  type PathObserver,
  type StackFault,
} from './path.ts';
import type { RuleFailure } from './walk.ts';

export type ExplainedStep =
  | { readonly kind: 'note'; readonly text: string }
  | {
      readonly kind: 'rule';
      readonly table: string;
      readonly chain: string;
      /** From 1. */
      readonly number: number;
      readonly rule: Rule;
      readonly matched: boolean;
      /** The first condition that failed, with the packet's value: "dport 443 is not 22". Absent when it matched. */
      readonly reason?: string;
    };

export interface Explanation {
  readonly steps: readonly ExplainedStep[];
  readonly outcome: PacketOutcome;
  /** One sentence for the verdict. */
  readonly sentence: string;
}

/** Evaluates the packet (counters move) and tells what happened on its way. */
export function explainPacket(host: EvaluationHost, input: PacketInput): Explanation {
  return explain((observer) => evaluatePacket(host, input, observer));
}

/** As {@link explainPacket}, for one hook alone. */
export function explainHook(host: EvaluationHost, input: HookInput): Explanation {
  return explain((observer) => evaluateHook(host, input, observer));
}

function explain(evaluate: (observer: PathObserver) => PacketOutcome): Explanation {
  const steps: ExplainedStep[] = [];
  const outcome = evaluate({
    station(station) {
      switch (station.kind) {
        case 'table':
          steps.push({ kind: 'note', text: `end of ${station.table} ${HOOK_CHAINS[station.hook]}` });
          break;
        case 'conntrack':
          steps.push({
            kind: 'note',
            text: `conntrack: ${station.view.state}, ${station.view.direction} direction`,
          });
          break;
        case 'reassembled':
          steps.push({ kind: 'note', text: `reassembled, ${station.length} bytes` });
          break;
        case 'routed':
          steps.push({
            kind: 'note',
            text: station.to === 'local' ? 'routed to this host' : `routed out by ${station.outDevice}`,
          });
          break;
      }
    },
    matched(table, chain, { rule, number }) {
      steps.push({ kind: 'rule', table: table.name, chain: chain.name, number, rule, matched: true });
    },
    missed(table, chain, { rule, number }, failure, packet) {
      const reason = describeFailure(rule, failure, packet);
      steps.push({
        kind: 'rule',
        table: table.name,
        chain: chain.name,
        number,
        rule,
        matched: false,
        reason,
      });
    },
  });
  return { steps, outcome, sentence: describeOutcome(outcome) };
}

/** The condition that failed, with the packet's value. */
export function describeFailure(rule: Rule, failure: RuleFailure, packet: EvaluationPacket): string {
  if (failure.kind === 'base') return describeBaseFailure(failure.failure, rule.base, packet);
  const use = rule.matches[failure.index]!;
  const words = use.extension.semantics?.explain?.(use.state, packet) ?? `-m ${use.name} does not match`;
  return failure.hotdrop ? `-m ${use.name} cannot read its header, so the packet is dropped` : words;
}

const FAULTS: Readonly<Record<StackFault, string>> = {
  'not-for-us': 'it was addressed to another host on the link',
  'bad-header': 'its IP header is malformed',
  'bad-header-checksum': 'its IP header checksum is wrong',
  truncated: 'it is shorter than its IP header says',
  'bad-address': 'its addresses may not appear on this link',
  'bad-options': 'its IP options are malformed or not allowed',
  'martian-source': 'its source address cannot come from there',
  'martian-destination': 'its destination address cannot be routed',
  'no-route': 'there is no route to its destination',
  unreachable: 'its route says that the destination cannot be reached',
  prohibited: 'its route prohibits the destination',
  blackhole: 'its route drops it without a word',
  'not-forwarding': 'this host does not forward',
  'not-joined': 'this host has not joined its multicast group',
  'ttl-exceeded': 'its hop count is used up',
  'conntrack-full': 'the connection table is full',
  'conntrack-clash': 'another packet opened the same connection first',
  'fragment-held': 'it waits for the other fragments of its datagram',
  'no-reassembly': 'it is a fragment and this engine has no reassembly',
};

/** "Dropped by filter INPUT rule 3." */
export function describeOutcome(outcome: PacketOutcome): string {
  const { verdict, decision, delivered } = outcome;
  const verb = verdict === 'ACCEPT' ? 'Accepted' : 'Dropped';
  const where =
    delivered === undefined
      ? ''
      : delivered.to === 'local'
        ? ', delivered to this host'
        : `, sent out by ${delivered.device}`;
  switch (decision.kind) {
    case 'rule':
      return `${verb} by ${decision.table} ${decision.chain} rule ${decision.rule}${where}.`;
    case 'policy':
      return `${verb} by the policy of ${decision.table} ${decision.chain}${where}.`;
    case 'hotdrop':
      return `Dropped at ${decision.table} ${decision.chain} rule ${decision.rule}, which could not read the packet.`;
    case 'stack':
      return decision.fault === 'fragment-held'
        ? `Held: ${FAULTS[decision.fault]}.`
        : `Dropped before any rule decided: ${FAULTS[decision.fault]}.`;
    case 'none':
      return `Accepted: no table has a chain on its way${where}.`;
  }
}
