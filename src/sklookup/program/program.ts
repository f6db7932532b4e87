/**
 * The sk_lookup program: finds the binding, its destination, one of that destination's sockets, and selects it.
 * Everything that can change (bindings, labels, sockets) is data, so one program serves for good.
 */
import {
  type AssembledProgram,
  Assembler,
  type Label,
  R0,
  R1,
  R2,
  R3,
  R6,
  R7,
  R8,
  R9,
  R10,
} from '../../isa/index.ts';
import {
  BindingRecord,
  BindingSet,
  DESTINATION_SIZE,
  DESTINATIONS_OFFSET,
  DestinationFlag,
  MAX_DESTINATIONS,
  METRICS_MAP,
  Metric,
  type MetricName,
  SOCKET_ARENA,
  SocketArena,
} from '../layout.ts';
import { emitChoose, emitSocketOfSlot } from './choose.ts';
import { emitFindFlow, emitKeepFlow } from './flow.ts';
import { emitKeys } from './keys.ts';
import { Frame } from './stack.ts';
import { emitWalk } from './walk.ts';

export const SK_DROP = 0;
export const SK_PASS = 1;
const BPF_SK_LOOKUP_F_NO_REUSEPORT = 2;
const EEXIST = 17;
const EPROTOTYPE = 91;
const ESOCKTNOSUPPORT = 94;
const EAFNOSUPPORT = 97;

export interface SkLookupOptions {
  /**
   * For test runs that ask what would happen: leaves kept flows as they are, and selects a socket out of a reuseport
   * group without asking the group (a test run cannot). A test run has no device either: it is this one.
   */
  readonly probe?: { readonly ifindex: number };
}

/** The program, unlinked: it names the arena and the maps of layout.ts. */
export function assembleSkLookup(options: SkLookupOptions = {}): AssembledProgram {
  const probe = options.probe !== undefined;
  const asm = new Assembler();
  const pass = asm.label('pass');
  const drop = asm.label('drop');
  const unbound = asm.label('unbound');
  const found = asm.label('found');
  const choose = asm.label('choose');
  const chosen = asm.label('chosen');
  const assign = asm.label('assign');
  const miss = asm.label('miss');

  asm.mov(R6, R1);
  // A program may use the arena that it refers to by its map.
  asm.loadMap(R1, SOCKET_ARENA);
  emitKeys(asm, R7, R8, pass, options.probe?.ifindex);
  asm.loadArena(R1, SOCKET_ARENA, SocketArena.root).castToKernel(R1, R1).load('u32', R1, R1, 0);
  asm.jump('==', R1, 0, unbound).mul(R7, 4).add(R1, R7).castToKernel(R1, R1);
  asm.load('u32', R7, R1, BindingSet.tables).jump('==', R7, 0, unbound);
  emitWalk(asm, found, unbound);

  asm.place(found).load('u32', R9, R7, BindingRecord.destination).jump('>=', R9, MAX_DESTINATIONS, drop);
  asm.store('u32', R10, Frame.destination, R9).mov(R1, R9).add(R1, 1).store('u32', R10, Frame.metricsKey, R1);
  emitMetrics(asm, drop);
  asm
    .mul(R9, DESTINATION_SIZE)
    .loadArena(R1, SOCKET_ARENA, DESTINATIONS_OFFSET)
    .add(R1, R9)
    .castToKernel(R1, R1);
  // One load: members and flags change together.
  asm.load('u64', R8, R1, 0).store('u32', R10, Frame.members, R8).rsh(R8, 32);
  asm.mov(R1, R8).and(R1, DestinationFlag.KEEP_FLOWS).jump('==', R1, 0, choose);
  emitFindFlow(asm, choose, !probe);
  emitSocketOfSlot(asm, choose);
  asm.mov(R9, R0);
  emitCount(asm, 'keptFlows');
  asm.goto(assign);

  asm.place(choose);
  emitChoose(asm, chosen, miss);
  asm.place(chosen).mov(R9, R0);
  if (!probe) {
    asm.mov(R1, R8).and(R1, DestinationFlag.KEEP_FLOWS).jump('==', R1, 0, assign);
    emitKeepFlow(asm);
  }
  asm
    .place(assign)
    .mov(R1, R6)
    .mov(R2, R9)
    .mov(R3, probe ? BPF_SK_LOOKUP_F_NO_REUSEPORT : 0);
  asm.call('bpf_sk_assign').mov(R8, R0).mov(R1, R9).call('bpf_sk_release');
  emitOutcome(asm, pass, drop);

  asm.place(miss);
  emitCount(asm, 'misses');
  asm.and(R8, DestinationFlag.PASS_WHEN_EMPTY).jump('!=', R8, 0, pass);
  asm.place(drop).return(SK_DROP);

  asm.place(unbound).store('u32', R10, Frame.metricsKey, 0);
  emitMetrics(asm, pass);
  emitCount(asm, 'misses');
  asm.place(pass).return(SK_PASS);
  return asm.finish();
}

/** r7 = counters of the key in the frame. Uses r0..r5. */
function emitMetrics(asm: Assembler, fails: Label): void {
  asm.loadMap(R1, METRICS_MAP).mov(R2, R10).add(R2, Frame.metricsKey).call('bpf_map_lookup_elem');
  asm.jump('==', R0, 0, fails).mov(R7, R0);
}

/** Adds one to a counter of r7. Atomic: a look-up in process context can be interrupted by one in softirq. Uses r1. */
function emitCount(asm: Assembler, name: MetricName): void {
  asm.mov(R1, 1).atomic('add', 'u64', R7, Metric[name], R1);
}

/** What bpf_sk_assign said (in r8): counted, and decided. Another program's earlier choice stands; the rest fails closed. */
function emitOutcome(asm: Assembler, pass: Label, drop: Label): void {
  const outcomes: readonly (readonly [number, MetricName, Label])[] = [
    [0, 'assigned', pass],
    [-EEXIST, 'taken', pass],
    [-EPROTOTYPE, 'wrongProtocol', drop],
    [-EAFNOSUPPORT, 'wrongFamily', drop],
    [-ESOCKTNOSUPPORT, 'wrongState', drop],
  ];
  for (const [result, metric, then] of outcomes) {
    const other = asm.label(`not_${metric}`);
    asm.jump('!=', R8, result, other);
    emitCount(asm, metric);
    asm.goto(then).place(other);
  }
  emitCount(asm, 'otherError');
  asm.goto(drop);
}
