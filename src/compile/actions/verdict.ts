/** How a section ends: accepted, dropped, hotdropped, malformed. Placed once behind its rules. */

import { SystemCounter } from '../arena/layout.ts';
import { emitTick } from '../emit/counter.ts';
import type { Emission } from '../emit/emission.ts';
import { emitRemember, type FragmentStrategy } from '../fragments.ts';
import { emitHandOn } from './handed.ts';
import { emitReplies } from './reply/reply.ts';

export function emitVerdicts(emission: Emission, fragments: FragmentStrategy): void {
  const { asm, hook, labels } = emission;
  asm.at(undefined);
  asm.place(labels.accept).note('accepted');
  emitHandOn(emission);
  if (fragments === 'track') emitRemember(emission);
  asm.return(hook.accept);
  asm.place(labels.malformed).note('malformed: counted, dropped');
  emitTick(emission, SystemCounter.malformed);
  asm.goto(labels.drop);
  asm.place(labels.hotdrop).note('hotdrop: counted, dropped');
  emitTick(emission, SystemCounter.hotdrops);
  asm.place(labels.drop).note('dropped').return(hook.drop);
  if (labels.reply !== undefined && hook.answering !== undefined) {
    emitReplies(emission, labels.reply, hook.answering);
  }
}
