/** The connection look-up of an ingress hook by itself: a program that returns the fact `ctState`, the set of states left. */

import { HandedActions } from '../../src/compile/emit/emission.ts';
import { closeFacts, Facts } from '../../src/compile/emit/fact.ts';
import { Frame } from '../../src/compile/emit/frame.ts';
import { LogPoints } from '../../src/compile/emit/logpoint.ts';
import { StateWords } from '../../src/compile/emit/state.ts';
import { hookEmitter } from '../../src/compile/hooks/index.ts';
import type { AttachPoint, RuleTag } from '../../src/compile/index.ts';
import { emitIpv4Facts } from '../../src/compile/prologue/ipv4.ts';
import { emitIpv6Facts } from '../../src/compile/prologue/ipv6.ts';
import { type AssembledProgram, Assembler, R0, R10 } from '../../src/isa/index.ts';
import type { Family } from '../../src/net/index.ts';

/** What it returns for packets that no rule would see. */
export const NOT_LOOKED_UP = 0xffff;

export function buildLookup(point: AttachPoint, family: Family): AssembledProgram<RuleTag> {
  const asm = new Assembler<RuleTag>();
  const hook = hookEmitter(point);
  const frame = new Frame();
  const section = asm.label('section');
  const out = asm.label('out');
  const facts = new Facts(family, closeFacts(['ctState', ...hook.lookupNeeds!], family), frame);
  const labels = { accept: out, drop: out, hotdrop: out, malformed: out };
  const parts = { state: new StateWords(), handed: new HandedActions(), logs: new LogPoints(), hz: 250 };
  const emission = { asm, hook, family, facts, frame, labels, returnSlots: [], ...parts };
  hook.begin(asm);
  const families = { ipv4: out, ipv6: out, [family]: section };
  hook.sort(asm, new Frame(), { ...families, other: out, malformed: out });
  asm.place(section);
  hook.open(emission);
  if (family === 'ipv4') emitIpv4Facts(emission);
  else emitIpv6Facts(emission);
  hook.facts(emission);
  asm.load('u32', R0, R10, facts.offset('ctState')).exit();
  asm.place(out).mov(R0, NOT_LOOKED_UP).exit();
  return asm.finish({ prune: true });
}
