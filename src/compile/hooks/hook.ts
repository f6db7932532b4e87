/**
 * A hook flavour: how a program of this kind gets at its packet and its surroundings, and how it says a verdict.
 *
 * All packet offsets are counted from the network header.
 */
import type { Assembler, AttachType, Label, Operand, ProgramType, Register } from '../../isa/index.ts';
import type { AttachPoint } from '../attach.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import type { Frame } from '../emit/frame.ts';
import type { RuleTag } from '../program.ts';
import type { Answering } from './answer.ts';

/** Offset from the network header: a constant, and the 32-bit word at a frame offset when one is given. */
export interface PacketOffset {
  readonly constant: number;
  readonly word?: number;
}

/** Where the sections of a program begin, by what the packet is. */
export interface FamilyLabels {
  readonly ipv4: Label;
  readonly ipv6: Label;
  /** Neither: passes, counted. */
  readonly other: Label;
  /** Cut short or too deeply tagged: dropped, counted. */
  readonly malformed: Label;
}

export interface HookEmitter {
  readonly point: AttachPoint;
  readonly type: ProgramType;
  readonly attachType: AttachType;
  /** Return values. */
  readonly accept: number;
  readonly drop: number;

  /** True where it can be entered in process context: see needsAtomicCounters (../attach.ts). */
  readonly preemptible: boolean;
  /** Present where only the packet tells: goes to `yes` unless this packet comes in softirq. Uses r1. */
  readonly askPreemptible?: (asm: Assembler<RuleTag>, yes: Label) => void;

  /** `to` = the attach point's place (entryIndex). Uses `to` alone. */
  place(asm: Assembler<RuleTag>, to: Register): void;
  /** First instructions: r6 = context, r9 = the hook's own; r1 holds the context at entry. */
  begin(asm: Assembler<RuleTag>): void;
  /** `to` = the packet's identity, the same at every hook of this packet. Uses r1 (`to` may be r1) and r2. */
  identity(asm: Assembler<RuleTag>, to: Register): void;
  /** `to` = the cookie of the namespace. Uses r0..r5. */
  cookie(asm: Assembler<RuleTag>, to: Register): void;
  /** Sorts the packet by family. Uses r0..r5, may use `frame`. */
  sort(asm: Assembler<RuleTag>, frame: Frame, labels: FamilyLabels): void;
  /** Before the first {@link read} of a section, and before anything else takes of its frame. */
  open(emission: Emission): void;
  /** Bytes at the frame's top that {@link open} takes for what the verifier must not forget. */
  readonly keeps: number;
  /**
   * Copies `bytes` bytes of the packet to where `place` makes a register point (it may use that register alone); goes to
   * `short` when they are not all there. Uses r0..r5, of which r1 or r4 may hold the number. See emit/copy.ts.
   */
  read(
    emission: Emission,
    bytes: Operand,
    place: (register: Register) => void,
    from: PacketOffset,
    short: Label,
  ): void;
  /** As {@link read} of a constant length to the frame at `to`, where the hook has a quicker way. Uses r0..r5. */
  readonly copy?: (emission: Emission, to: number, from: PacketOffset, bytes: number, short: Label) => void;
  /** Stores what the hook knows of the packet besides its bytes: devices, mark, state, ... Uses r0..r5. */
  facts(emission: Emission): void;
  /**
   * Present where packets have their connection with them: r0 = struct nf_conn of the packet, to be read; goes to `none`
   * when it has none. Uses r1..r5.
   */
  readonly connection?: (emission: Emission, none: Label) => void;
  /**
   * Writes the packet's link-layer header to the LOG record (../actions/log.ts) whose pointer lies in the frame at `record`.
   * Uses r0..r5.
   */
  logLink(emission: Emission, record: number): void;
  /** Likewise who owns the packet's socket, where packets have one. */
  readonly logOwner?: (emission: Emission, record: number) => void;
  /** Facts that this hook can provide besides those in the packet's bytes. */
  readonly provides: ReadonlySet<Fact>;
  /**
   * Present where conntrack has not run yet: the fact `ctState` is a set of states (../connectionstate.ts), and these facts
   * are needed to find it.
   */
  readonly lookupNeeds?: readonly Fact[];
  /** Present where a program can answer a packet by itself. */
  readonly answering?: Answering;
}
