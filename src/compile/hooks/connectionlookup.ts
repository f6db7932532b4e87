/**
 * Connection state where conntrack has not run yet: the look-up that it is going to make, by bpf_xdp_ct_lookup and
 * bpf_skb_ct_lookup (net/netfilter/nf_conntrack_bpf.c), and the part of its judgment that depends on the entry alone
 * (resolve_normal_ct; tcp_error and the transitions of nf_conntrack_proto_tcp.c; udp_error). The fact `ctState` becomes the
 * set of states that are left, see ../connectionstate.ts. The namespace is the packet's own.
 */
import { type Label, R0, R1, R2, R3, R4, R5, R6, R10 } from '../../isa/index.ts';
import { StateSet } from '../connectionstate.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

/** Facts of the packet's bytes that a look-up takes. */
export const LOOKUP_NEEDS: readonly Fact[] = [
  'source',
  'destination',
  'protocol',
  'fragmentOffset',
  'isFragment',
  'transportOffset',
  'transportLength',
];

const TCP = 6;
const UDP = 17;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const UDP_LENGTH = 4;
const TCP_DATA_OFFSET = 12;
/** FIN, SYN, RST, ACK, URG. */
const TCP_FLAGS = 0x37;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
const URG = 32;
/** tcp_valid_flags, as bits by flags. */
const VALID_FLAGS: bigint = [
  SYN,
  SYN | URG,
  SYN | ACK,
  RST,
  RST | ACK,
  FIN | ACK,
  FIN | ACK | URG,
  ACK,
  ACK | URG,
].reduce((bits, flags) => bits | (1n << BigInt(flags)), 0n);

/** get_conntrack_index(): what a segment is to the table of transitions. */
const Segment = { syn: 0, synAck: 1, fin: 2, ack: 3, rst: 4 } as const;
/** What a transition does to the packet: two bits. */
const Step = { fits: 0, invalid: 1, mayReopen: 2 } as const;
/**
 * tcp_conntracks by direction and segment, a letter for each old state from NONE to SYN_SENT2: `i`nvalid, `r` a SYN that may
 * open the connection anew, `.` part of the connection, whether it moves its state or not.
 */
const TRANSITIONS: readonly (readonly string[])[] = [
  ['.......rr.', 'ii.iiiiii.', 'ii.......i', '.i.......i', 'i.........'],
  ['i.iiiiiri.', 'i.........', 'ii.......i', 'i.........', 'i.........'],
];

const IPS_EXPECTED = 1;
const IPS_SEEN_REPLY = 2;
const IP_CT_TCP_FLAG_CLOSE_INIT = 4;
/** struct ip_ct_tcp_state: bytes, and where its flags lie. */
const TCP_SIDE = 20;
const TCP_SIDE_FLAGS = 17;

/** struct bpf_sock_tuple and struct bpf_ct_opts, in the place of what the routing decision needs later. */
const PLACE = 64;
const Tuple = { ipv4: 12, ipv6: 36 } as const;
const OPTIONS = 40;
const Options = { netns: 0, protocol: 8, direction: 9, size: 12 } as const;
const BPF_F_CURRENT_NETNS = 0xffffffff;

/** Stores the set of states of a packet that conntrack has not seen. Uses r0..r5. */
export function emitConnectionLookup(
  emission: Emission,
  lookup: 'bpf_xdp_ct_lookup' | 'bpf_skb_ct_lookup',
): void {
  new LookupWriter(emission).write(lookup);
}

class LookupWriter {
  readonly #emission: Emission;
  readonly #done: Label;
  readonly #release: Label;
  readonly #tuple: number;
  readonly #options: number;
  readonly #scratch: number;
  /** Frame word, of conntrack.ts elsewhere: {@link Segment} of a TCP segment. */
  readonly #segment: number;

  constructor(emission: Emission) {
    const { asm, frame } = emission;
    this.#emission = emission;
    this.#done = asm.label('state_known');
    this.#release = asm.label('release_connection');
    this.#tuple = frame.block('fib', PLACE);
    this.#options = this.#tuple + OPTIONS;
    this.#scratch = frame.block('scratch', 8);
    this.#segment = frame.word('ctInfo');
  }

  write(lookup: string): void {
    const { asm, facts, family } = this.#emission;
    const tcp = asm.label('tcp_segment');
    const sound = asm.label('sound_header');
    const found = asm.label('connection_found');
    this.#be(StateSet.unknown);
    if (family === 'ipv6') {
      asm.load('u32', R1, R10, facts.offset('protocolMissing')).jump('!=', R1, 0, this.#done);
    }
    asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('!=', R1, 0, this.#done);
    asm
      .load('u32', R1, R10, facts.offset('protocol'))
      .jump('==', R1, TCP, tcp)
      .jump('!=', R1, UDP, this.#done);
    this.#checkUdp(sound);
    asm.place(tcp);
    this.#checkTcp();
    asm.place(sound);
    this.#call(lookup);
    asm.jump('!=', R0, 0, found);
    this.#notFound();
    asm.place(found);
    this.#judge();
    asm.place(this.#release).mov(R1, R0).callKfunc('bpf_ct_release');
    asm.place(this.#done);
  }

  #be(states: number): void {
    const { asm, facts } = this.#emission;
    asm.store('u32', R10, facts.offset('ctState'), states);
  }

  /** Of a first fragment the rest of the header may come later: nothing is known then. Otherwise it is INVALID. */
  #wantBytes(bytes: number): void {
    const { asm, facts } = this.#emission;
    const enough = asm.label('enough');
    asm.load('u32', R1, R10, facts.offset('transportLength')).jump('>=', R1, bytes, enough);
    asm.load('u32', R1, R10, facts.offset('isFragment')).jump('!=', R1, 0, this.#done);
    this.#be(StateSet.invalid);
    asm.goto(this.#done).place(enough);
  }

  /** udp_error(). */
  #checkUdp(sound: Label): void {
    const { asm, facts } = this.#emission;
    this.#wantBytes(UDP_HEADER);
    this.#copy(UDP_LENGTH, 2);
    asm.load('u32', R1, R10, facts.offset('isFragment')).jump('!=', R1, 0, sound);
    this.#be(StateSet.invalid);
    asm.load('u16', R1, R10, this.#scratch).toBe(R1, 16).jump('<', R1, UDP_HEADER, this.#done);
    asm.load('u32', R2, R10, facts.offset('transportLength')).jump('>', R1, R2, this.#done).goto(sound);
  }

  /** tcp_error() and get_conntrack_index(). */
  #checkTcp(): void {
    const { asm, facts } = this.#emission;
    const whole = asm.label('whole_segment');
    const known = asm.label('segment_known');
    const kind = (which: keyof typeof Segment): void =>
      void asm.store('u32', R10, this.#segment, Segment[which]);
    this.#wantBytes(TCP_HEADER);
    this.#copy(TCP_DATA_OFFSET, 2);
    this.#be(StateSet.invalid);
    asm.load('u8', R1, R10, this.#scratch).rsh(R1, 4).lsh(R1, 2).jump('<', R1, TCP_HEADER, this.#done);
    asm.load('u32', R2, R10, facts.offset('isFragment')).jump('!=', R2, 0, whole);
    asm.load('u32', R2, R10, facts.offset('transportLength')).jump('>', R1, R2, this.#done);
    asm.place(whole);
    asm
      .load('u8', R1, R10, this.#scratch + 1)
      .and(R1, TCP_FLAGS)
      .loadWide(R2, VALID_FLAGS)
      .rsh(R2, R1);
    asm.and(R2, 1).jump('==', R2, 0, this.#done);
    const test = (flag: number, which: keyof typeof Segment): void => {
      const other = asm.label('other_segment');
      asm.mov(R2, R1).and(R2, flag).jump('==', R2, 0, other);
      kind(which);
      asm.goto(known).place(other);
    };
    test(RST, 'rst');
    const noSyn = asm.label('no_syn');
    asm.mov(R2, R1).and(R2, SYN).jump('==', R2, 0, noSyn);
    test(ACK, 'synAck');
    kind('syn');
    asm.goto(known).place(noSyn);
    test(FIN, 'fin');
    kind('ack');
    asm.place(known);
  }

  /** From the transport header to the scratch block. */
  #copy(at: number, bytes: number): void {
    const word = this.#emission.facts.offset('transportOffset');
    emitCopy(this.#emission, this.#scratch, { constant: at, word }, bytes, this.#done);
  }

  /** r0 = struct nf_conn or null. */
  #call(lookup: string): void {
    const { asm, facts, family } = this.#emission;
    const words = family === 'ipv4' ? 1 : 4;
    const ports = this.#tuple + words * 8;
    const word = facts.offset('transportOffset');
    emitCopy(this.#emission, ports, { constant: 0, word }, 4, this.#done);
    for (const [side, fact] of (['source', 'destination'] as const).entries()) {
      for (let index = 0; index < words; index++) {
        asm.load('u32', R1, R10, facts.offset(fact, index));
        asm.store('u32', R10, this.#tuple + (side * words + index) * 4, R1);
      }
    }
    asm.loadConstant(R1, BPF_F_CURRENT_NETNS).store('u64', R10, this.#options + Options.netns, R1);
    asm.load('u32', R1, R10, facts.offset('protocol'));
    asm.store('u64', R10, this.#options + Options.protocol, R1);
    asm.mov(R1, R6).mov(R2, R10).add(R2, this.#tuple).mov(R3, Tuple[family]);
    asm.mov(R4, R10).add(R4, this.#options).mov(R5, Options.size).callKfunc(lookup);
  }

  /** init_conntrack() and tcp_new(): what can be told without knowing expectations and settings. */
  #notFound(): void {
    const { asm, facts } = this.#emission;
    const opening = asm.label('opening');
    asm.load('u32', R1, R10, facts.offset('protocol')).jump('==', R1, UDP, opening);
    asm.load('u32', R1, R10, this.#segment).jump('==', R1, Segment.syn, opening);
    this.#be(StateSet.invalid);
    asm.jump('!=', R1, Segment.ack, this.#done);
    this.#be(StateSet.midway);
    asm.goto(this.#done).place(opening);
    this.#be(StateSet.opening);
    asm.goto(this.#done);
  }

  /** resolve_normal_ct(), then the table of transitions. r0 = the connection, kept. */
  #judge(): void {
    const { asm, facts } = this.#emission;
    const resolved = asm.label('resolved');
    asm.load('u8', R5, R10, this.#options + Options.direction);
    this.#be(StateSet.established);
    asm.jump('!=', R5, 0, resolved);
    asm.loadField('u64', R1, R0, 'nf_conn', 'status');
    asm.mov(R2, R1).and(R2, IPS_SEEN_REPLY).jump('!=', R2, 0, resolved);
    this.#be(StateSet.related);
    asm.and(R1, IPS_EXPECTED).jump('!=', R1, 0, resolved);
    this.#be(StateSet.new);
    asm.place(resolved);
    asm.load('u32', R1, R10, facts.offset('protocol')).jump('!=', R1, TCP, this.#release);
    this.#step();
  }

  /** r0 = the connection, r5 = the direction. */
  #step(): void {
    const { asm } = this.#emission;
    const chosen = asm.label('transitions');
    const reopened = asm.label('reopened');
    asm.load('u32', R1, R10, this.#segment).loadField('u8', R2, R0, 'nf_conn', 'proto.tcp.state');
    for (const [direction, rows] of TRANSITIONS.entries()) {
      const other = asm.label('other_direction');
      asm.jump('!=', R5, direction, other);
      for (const [segment, row] of rows.entries()) {
        const next = asm.label('next_segment');
        asm.jump('!=', R1, segment, next).mov(R3, packRow(row)).goto(chosen).place(next);
      }
      asm.place(other);
    }
    asm.goto(this.#release);
    asm.place(chosen).and(R2, 0xf).lsh(R2, 1).rsh(R3, R2).and(R3, 3);
    asm.jump('==', R3, Step.fits, this.#release);
    const invalid = asm.label('invalid_segment');
    asm.jump('==', R3, Step.invalid, invalid);
    // A SYN opens the connection anew when it was closed in order, or by a RST of the same side; else it is let through.
    for (const side of [0, 1]) {
      asm.loadField('u8', R1, R0, 'nf_conn', 'proto.tcp.seen', side * TCP_SIDE + TCP_SIDE_FLAGS);
      asm.and(R1, IP_CT_TCP_FLAG_CLOSE_INIT).jump('!=', R1, 0, reopened);
    }
    asm.loadField('u8', R1, R0, 'nf_conn', 'proto.tcp.last_dir').jump('!=', R1, R5, this.#release);
    asm.loadField('u8', R1, R0, 'nf_conn', 'proto.tcp.last_index');
    asm.jump('!=', R1, Segment.rst, this.#release);
    asm.place(reopened);
    this.#be(StateSet.opening);
    asm.goto(this.#release).place(invalid);
    this.#be(StateSet.invalid);
  }
}

/** Two bits for each old state. */
function packRow(row: string): number {
  return [...row].reduce((bits, letter, state) => {
    const step = letter === 'i' ? Step.invalid : letter === 'r' ? Step.mayReopen : Step.fits;
    return bits | (step << (state * 2));
  }, 0);
}
