/** One packet's course through a netstack: its stations in words, the rules it met, and how it ended. */
import { HOOK_CHAINS, type Hook } from '../../ir/index.ts';
import { formatAddressBytes } from '../../net/index.ts';
import {
  NF_DROP,
  type PathDrop,
  type PathEvent,
  TCX_DROP,
  TCX_NEXT,
  TCX_PASS,
  TCX_REDIRECT,
  type Tracking,
} from '../../netstack/index.ts';
import {
  describeFailure,
  type ExplainedStep,
  type TableDecision,
  type TableName,
  type TableOutcome,
} from '../../rules/index.ts';
import type { TableObserver } from '../netstack/tables.ts';
import type { Decision } from './engine.ts';

interface TableEnd {
  readonly table: TableName;
  readonly verdict: TableOutcome['verdict'];
  readonly decision: TableDecision;
}

/** Told of everything by a stack and by the tables in it; begins anew with each packet. */
export class Course {
  readonly steps: ExplainedStep[] = [];
  /** "sent out by eth0", "delivered to this host"; empty while it did neither. */
  where = '';
  readonly #matched: (readonly [string, string, number])[] = [];
  #last: TableEnd | undefined;
  #filter: TableEnd | undefined;
  #ending: 'none' | 'accepted' | 'held' | PathDrop = 'none';
  /** Answers of the host are told, but they do not decide. */
  #over = false;

  /** What the tables tell. `current` gives the course of the packet at hand. */
  static observer(current: () => Course): TableObserver {
    return {
      matched: (table, chain, { rule, number }) => {
        const course = current();
        const place = { table: table.name, chain: chain.name, number };
        course.steps.push({ kind: 'rule', ...place, rule, matched: true });
        if (!course.#over) course.#matched.push([table.name, chain.name, number]);
      },
      missed: (table, chain, { rule, number }, failure, packet) => {
        const reason = describeFailure(rule, failure, packet);
        const place = { table: table.name, chain: chain.name, number };
        current().steps.push({ kind: 'rule', ...place, rule, matched: false, reason });
      },
      decided: (table, hook, { verdict, decision }) => {
        const course = current();
        course.#note(`end of ${table.name} ${HOOK_CHAINS[hook as Hook]}: ${verdict}`);
        if (course.#over) return;
        course.#last = { table: table.name, verdict, decision };
        if (table.name === 'filter') course.#filter = course.#last;
      },
    };
  }

  /** What the stack tells. */
  take(event: PathEvent): void {
    const note = noteOf(event);
    if (note !== undefined) this.#note(note);
    if (event.kind === 'consequence') this.#over = true;
    if (this.#over) return;
    switch (event.kind) {
      case 'held':
        this.#ending = 'held';
        break;
      case 'reassembled':
        this.#ending = 'none';
        break;
      case 'delivered':
        this.#ending = 'accepted';
        this.where = 'delivered to this host';
        break;
      case 'transmitted':
        this.#ending = 'accepted';
        this.where = `sent out by ${event.device}`;
        break;
      case 'dropped':
        this.#ending = event.reason;
        break;
    }
  }

  get decision(): Decision {
    const matched = this.#matched;
    switch (this.#ending) {
      case 'held':
        return { verdict: 'HELD', by: 'stack', reason: 'fragment-held', matched };
      case 'accepted': {
        const end = this.#filter ?? this.#last;
        if (end === undefined) return { verdict: 'ACCEPT', by: 'none', reason: 'no-chain', matched };
        return { verdict: 'ACCEPT', ...decisionFields(end), matched };
      }
      case 'netfilter':
        if (this.#last !== undefined && this.#last.verdict !== 'ACCEPT')
          return { verdict: 'DROP', ...decisionFields(this.#last), matched };
        return { verdict: 'DROP', by: 'stack', reason: 'netfilter', matched };
      case 'none':
        return { verdict: 'DROP', by: 'stack', reason: 'consumed', matched };
      default:
        return { verdict: 'DROP', by: 'stack', reason: this.#ending, matched };
    }
  }

  /** "Dropped by filter INPUT rule 3." */
  get sentence(): string {
    const { verdict, by, table, chain, rule, reason } = this.decision;
    if (verdict === 'HELD') return 'Held: it waits for the other fragments of its datagram.';
    const verb = verdict === 'ACCEPT' ? 'Accepted' : 'Dropped';
    const where = verdict === 'ACCEPT' && this.where !== '' ? `, ${this.where}` : '';
    if (by === 'rule' || by === 'hotdrop') return `${verb} by ${table} ${chain} rule ${rule}${where}.`;
    if (by === 'policy') return `${verb} by the policy of ${table} ${chain}${where}.`;
    if (by === 'none') return `${verb}: no table has a chain on its way${where}.`;
    return `${verb} by the stack: ${reason}${where}.`;
  }

  #note(text: string): void {
    this.steps.push({ kind: 'note', text });
  }
}

function decisionFields({ table, decision }: TableEnd): Pick<Decision, 'by' | 'table' | 'chain' | 'rule'> {
  const { kind, chain } = decision;
  return kind === 'policy' ? { by: kind, table, chain } : { by: kind, table, chain, rule: decision.rule };
}

/** One station in words; `undefined` for what the next one tells anyway. */
function noteOf(event: PathEvent): string | undefined {
  switch (event.kind) {
    case 'received':
      return `comes in by ${event.device}`;
    case 'program': {
      const hook = event.hook === undefined ? '' : ` at ${HOOK_CHAINS[event.hook]}`;
      return `${event.where} program ${event.name}${hook}: ${verdictName(event)}`;
    }
    case 'held':
      return 'waits for the other fragments';
    case 'reassembled':
      return `reassembled from ${event.fragments} fragments, ${event.length} bytes`;
    case 'conntrack':
      return trackingNote(event.tracking);
    case 'routed':
      return event.to === 'local'
        ? 'routed to this host'
        : `${event.to === 'out' ? 'sent by this host' : 'routed'} out by ${event.outDevice}`;
    case 'fragmented':
      return `cut into ${event.pieces} fragments`;
    case 'icmp-error': {
      const { type, code } = event.error;
      return `${event.sent ? 'answered' : 'not answered'} with ICMP type ${type} code ${code}`;
    }
    case 'delivered':
      return 'delivered to this host';
    case 'transmitted':
      return `leaves by ${event.device}: ${addressesOf(event.bytes)}`;
    case 'dropped':
      return `dropped: ${event.reason}${event.discard === undefined ? '' : `, ${event.discard}`}`;
    case 'consequence':
      return 'and then';
  }
}

const XDP_VERDICTS = ['XDP_ABORTED', 'XDP_DROP', 'XDP_PASS', 'XDP_TX', 'XDP_REDIRECT'];
const TCX_VERDICTS: ReadonlyMap<number, string> = new Map([
  [TCX_NEXT, 'TCX_NEXT'],
  [TCX_PASS, 'TCX_PASS'],
  [TCX_DROP, 'TCX_DROP'],
  [TCX_REDIRECT, 'TCX_REDIRECT'],
]);

/** A verdict by its name, or what the kernel makes of a number that is none. */
function verdictName({ where, verdict }: Extract<PathEvent, { kind: 'program' }>): string {
  switch (where) {
    case 'xdp':
      return XDP_VERDICTS[verdict] ?? `${verdict}, which drops as XDP_ABORTED`;
    case 'netfilter':
      return verdict === NF_DROP ? 'NF_DROP' : 'NF_ACCEPT';
    default:
      return TCX_VERDICTS.get(verdict) ?? `${verdict}, which passes as TCX_PASS`;
  }
}

function trackingNote({ state, direction, connection }: Tracking): string {
  if (connection === undefined) return `conntrack: ${state}`;
  return `conntrack: ${state}, ${direction} direction`;
}

function addressesOf(packet: Uint8Array): string {
  const [from, length] = packet[0]! >> 4 === 4 ? [12, 4] : [8, 16];
  const source = formatAddressBytes(packet.subarray(from, from + length));
  return `${source} > ${formatAddressBytes(packet.subarray(from + length, from + 2 * length))}`;
}
