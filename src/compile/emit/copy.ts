/** Copies from the packet, by way of the hook's own reading. */
import { type Label, R4, R10, type Register } from '../../isa/index.ts';
import type { PacketOffset } from '../hooks/hook.ts';
import type { Emission } from './emission.ts';

/** `bytes` bytes to the frame at `to`; to `short` when they are not all there. Uses r0..r5. */
export function emitCopy(
  emission: Emission,
  to: number,
  from: PacketOffset,
  bytes: number,
  short: Label,
): void {
  const { hook } = emission;
  if (hook.copy === undefined) emitCopyInLoop(emission, to, from, bytes, short);
  else hook.copy(emission, to, from, bytes, short);
}

/** As {@link emitCopy} in a loop, where more than one way would be more than the verifier keeps in mind. */
export function emitCopyInLoop(
  emission: Emission,
  to: number,
  from: PacketOffset,
  bytes: number,
  short: Label,
): void {
  emission.hook.read(emission, bytes, pointTo(emission, to), from, short);
}

/** As {@link emitCopy} for a length in r4, which the verifier must know to be at least 1 and within the block at `to`. */
export function emitCopyVariable(emission: Emission, to: number, from: PacketOffset, short: Label): void {
  emission.hook.read(emission, R4, pointTo(emission, to), from, short);
}

function pointTo({ asm }: Emission, to: number): (register: Register) => void {
  return (register) => asm.mov(register, R10).add(register, to);
}
