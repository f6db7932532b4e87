/**
 * One family's part of the classifier's program: the same bytes for all rules. It finds the facts that the entry in the
 * tables asks for, then walks the entry's chains.
 */
import { type Assembler, type Label, R1, R2, R7, R10 } from '../../../isa/index.ts';
import type { Family } from '../../../net/index.ts';
import { emitHandedStart } from '../../actions/handed.ts';
import { emitVerdicts } from '../../actions/verdict.ts';
import { Generation } from '../../arena/layout.ts';
import { emitCopy } from '../../emit/copy.ts';
import type { Emission, HandedActions } from '../../emit/emission.ts';
import { closeFacts, type Fact, Facts } from '../../emit/fact.ts';
import { emitFragmentStrategy } from '../../fragments.ts';
import type { HookEmitter } from '../../hooks/hook.ts';
import { emitRoute } from '../../hooks/route.ts';
import type { RuleTag } from '../../program.ts';
import { emitIpv4Facts } from '../../prologue/ipv4.ts';
import { emitIpv6Facts } from '../../prologue/ipv6.ts';
import { emitTransportFacts } from '../../prologue/transport.ts';
import type { GenerationParts } from '../../section.ts';
import { ALL_FACTS } from './facts.ts';
import { Entry, Need, PacketKind, TablesHeader } from './layout.ts';
import type { SetUse } from './setuse.ts';
import { emitWalk } from './walk.ts';
import { type WalkFrame, walkFrame, walkOffsets } from './walkframe.ts';

/** Facts that are found only where the entry needs them. */
const GATED: Readonly<Partial<Record<keyof typeof Need, readonly Fact[]>>> = {
  devices: ['inDevice', 'outDevice', 'inIfindex', 'outIfindex'],
  mac: ['macSource', 'hasMac'],
  connection: ['ctState', 'ctStatus', 'ctDirection', 'ctMark'],
  mark: ['mark', 'packetType'],
};
const PORTS: readonly Fact[] = ['sourcePort', 'destinationPort', 'icmpType', 'icmpCode'];
const SET_PORTS: readonly Fact[] = ['sourceSetPort', 'destinationSetPort'];
const TCP_FLAGS = 13;

/** `routed`: the hook runs before the routing decision, whose outcome chooses the chains. `sets`: what rules do with sets. */
export function emitClassifierSection(
  asm: Assembler<RuleTag>,
  hook: HookEmitter,
  family: Family,
  routed: boolean,
  sets: SetUse,
  parts: GenerationParts,
  handed: HandedActions,
): void {
  const frame = walkFrame(sets !== 'none');
  const known = new Set(knownFacts(hook, family, sets));
  const facts = new Facts(family, known, frame);
  const labels = {
    accept: asm.label('accept'),
    drop: asm.label('drop'),
    hotdrop: asm.label('hotdrop'),
    malformed: asm.label('malformed'),
  };
  const { state, logs, hz } = parts;
  const emission: Emission = {
    asm,
    hook,
    family,
    facts,
    frame,
    state,
    handed,
    logs,
    labels,
    hz,
    liveMarks: {
      unlessChanged: (none) => {
        asm.load('u32', R1, R10, walk.entry).castToKernel(R1, R1).load('u32', R1, R1, Entry.needs);
        asm.and(R1, Need.mark).jump('==', R1, 0, none);
      },
      load: (bits, whole) => {
        asm.load('u32', whole, R7, Generation.tables).castToKernel(whole, whole);
        asm.load('u32', bits, whole, TablesHeader.markBits).load('u32', whole, whole, TablesHeader.markWhole);
      },
    },
  };
  const walk = walkOffsets(emission);
  if (hook.point.flavour === 'netfilter') handed.use();

  emitFindEntry(emission, walk);
  const gated = new Set<Fact>([...Object.values(GATED).flat(), ...PORTS, ...SET_PORTS, 'tcpFlags']);
  const plain = new Facts(family, new Set([...known].filter((fact) => !gated.has(fact))), frame);
  const ungated: Emission = { ...emission, facts: plain };
  hook.open(ungated);
  if (family === 'ipv4') emitIpv4Facts(ungated);
  else emitIpv6Facts(ungated);
  // Most rules ask for none of these.
  const headers = asm.label('headers');
  emitUnless(emission, walk, Need.devices | Need.mac | Need.connection | Need.mark | Need.route, headers);
  for (const [need, group] of Object.entries(GATED)) {
    const own = new Set(group.filter((fact) => known.has(fact)));
    if (own.size === 0) continue;
    if (own.has('ctState')) for (const fact of closeFacts(hook.lookupNeeds ?? [], family)) own.add(fact);
    emitGate(emission, walk, Need[need as keyof typeof Need], () =>
      hook.facts({ ...emission, facts: new Facts(family, own, frame) }),
    );
  }
  if (routed && known.has('inIfindex')) {
    emitGate(emission, walk, Need.route, () =>
      hook.facts({ ...emission, facts: new Facts(family, new Set<Fact>(['inIfindex']), frame) }),
    );
  }
  asm.place(headers);
  emitGate(emission, walk, Need.ports, () => {
    const own = new Set<Fact>([...PORTS, 'transportOffset', 'fragmentOffset']);
    if (sets !== 'none') for (const fact of closeFacts(SET_PORTS, family)) own.add(fact);
    emitTransportFacts({ ...emission, facts: new Facts(family, own, frame) });
  });
  emitGate(emission, walk, Need.tcpFlags, () => emitTcpFlags(emission));
  emitHandedStart(emission);
  emitFragmentStrategy(emission, parts.fragments);
  emitPacketKind(emission, walk);
  emitLists(emission, walk, sets, routed);
  emitVerdicts(emission, parts.fragments);
}

/** Facts that this hook can find: all of the packet's bytes, and what it knows besides. */
function knownFacts(hook: HookEmitter, family: Family, sets: SetUse): Fact[] {
  const hooks = new Set(Object.values(GATED).flat());
  const absent = new Set<Fact>([
    ...(family === 'ipv4' ? (['fragmentHeader', 'authHeader', 'protocolMissing'] as const) : []),
    ...(sets === 'none' ? SET_PORTS : []),
  ]);
  const possible = ALL_FACTS.filter(
    (fact) => !absent.has(fact) && (!hooks.has(fact) || hook.provides.has(fact)),
  );
  return [...closeFacts(possible, family)];
}

/** Notes this attach point's entry; without one no chain is to be run. Uses r1, r2. */
function emitFindEntry(emission: Emission, walk: WalkFrame): void {
  const { asm, hook, family, labels } = emission;
  asm.load('u32', R1, R7, Generation.tables);
  hook.place(asm, R2);
  asm.lsh(R2, 3).add(R1, R2).castToKernel(R1, R1);
  asm.load('u32', R2, R1, TablesHeader.entries + (family === 'ipv6' ? 4 : 0));
  asm.store('u32', R10, walk.entry, R2);
  asm.jump('==', R2, 0, labels.malformed);
}

/** What `emit` writes is skipped unless the entry has the need. Uses r1. */
function emitGate(emission: Emission, walk: WalkFrame, need: number, emit: () => void): void {
  const { asm } = emission;
  const skip = asm.label('not_needed');
  emitUnless(emission, walk, need, skip);
  emit();
  asm.place(skip);
}

/** Goes on only if the entry has any of the needs. Uses r1. */
function emitUnless({ asm }: Emission, walk: WalkFrame, needs: number, none: Label): void {
  asm.load('u32', R1, R10, walk.entry).castToKernel(R1, R1).load('u32', R1, R1, Entry.needs);
  asm.and(R1, needs).jump('==', R1, 0, none);
}

function emitTcpFlags(emission: Emission): void {
  const { asm, facts, frame } = emission;
  const done = asm.label('flags_done');
  const buffer = frame.block('scratch', 40);
  const flags = facts.offset('tcpFlags');
  asm.store('u32', R10, flags, 0);
  asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('!=', R1, 0, done);
  emitCopy(emission, buffer, { constant: TCP_FLAGS, word: facts.offset('transportOffset') }, 1, done);
  asm.load('u8', R1, R10, buffer).store('u32', R10, flags, R1);
  asm.place(done);
}

/** PacketKind of the packet. Uses r1, r2. */
function emitPacketKind(emission: Emission, walk: WalkFrame): void {
  const { asm, facts, family } = emission;
  const decided = asm.label('packet_kind');
  const whole = asm.label('whole_header');
  const set = (kind: number): void => void asm.store('u32', R10, walk.kind, kind);
  if (family === 'ipv6') {
    const known = asm.label('protocol_known');
    asm.load('u32', R1, R10, facts.offset('protocolMissing')).jump('==', R1, 0, known);
    set(PacketKind.noProtocol);
    asm.goto(decided).place(known);
  }
  asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('==', R1, 0, whole);
  set(PacketKind.laterFragment);
  asm.jump('>', R1, 1, decided);
  set(PacketKind.short);
  asm.goto(decided).place(whole);
  set(PacketKind.short);
  asm.load('u32', R1, R10, walk.entry).load('u32', R2, R10, facts.offset('protocol')).and(R2, 0xff);
  asm.add(R1, R2).castToKernel(R1, R1).load('u8', R1, R1, Entry.headerBytes);
  asm.load('u32', R2, R10, facts.offset('transportLength')).jump('<', R2, R1, decided);
  set(PacketKind.regular);
  asm.place(decided);
}

/** Before the routing decision and after it; where there is none, the entry's only list. */
function emitLists(emission: Emission, walk: WalkFrame, sets: SetUse, routed: boolean): void {
  const { asm, labels } = emission;
  const start = asm.label('walk');
  const list = (which: 'before' | 'local' | 'forward'): void => {
    asm.load('u32', R1, R10, walk.entry).castToKernel(R1, R1).load('u32', R1, R1, Entry[which]);
    asm.store('u32', R10, walk.list, R1);
  };
  if (!routed) {
    list('local');
    emitWalk(emission, walk, sets, start, labels.accept);
    return;
  }
  const through: Label = asm.label('through');
  const forward = asm.label('forward');
  list('before');
  asm.store('u32', R10, walk.stage, 0);
  emitWalk(emission, walk, sets, start, through);
  asm.place(through).load('u32', R1, R10, walk.stage).jump('!=', R1, 0, labels.accept);
  asm.store('u32', R10, walk.stage, 1);
  emitRoute(emission, forward, undefined);
  list('local');
  asm.goto(start).place(forward);
  list('forward');
  asm.goto(start);
}
