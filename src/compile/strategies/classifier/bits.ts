/** Bits of words: how many there are, and which is the lowest. The instruction set has neither. */
import { type Assembler, type Label, R0, type Register } from '../../../isa/index.ts';
import type { RuleTag } from '../../program.ts';
import { DE_BRUIJN } from './layout.ts';

type Asm = Assembler<RuleTag>;

/** value = bits that are set in it. Uses `scratch` and r0. */
export function emitCountBits(asm: Asm, value: Register, scratch: Register): void {
  asm.mov(scratch, value).rsh(scratch, 1).loadWide(R0, 0x5555555555555555n).and(scratch, R0);
  asm.sub(value, scratch).loadWide(R0, 0x3333333333333333n);
  asm.mov(scratch, value).rsh(scratch, 2).and(scratch, R0).and(value, R0).add(value, scratch);
  asm.mov(scratch, value).rsh(scratch, 4).add(value, scratch);
  asm.loadWide(R0, 0x0f0f0f0f0f0f0f0fn).and(value, R0);
  asm.loadWide(R0, 0x0101010101010101n).mul(value, R0).rsh(value, 56);
}

/** place = number of the only bit of `bit`. `tables` = bitPlaces as arena pointer; it is lost. */
export function emitBitPlace(asm: Asm, place: Register, bit: Register, tables: Register): void {
  asm.loadWide(place, DE_BRUIJN).mul(place, bit).rsh(place, 58).add(tables, place);
  asm.load('u8', place, tables, 0);
}

/** low = the lowest bit of `bits`, which loses it. To `none` when there is none. */
export function emitTakeLowest(asm: Asm, bits: Register, low: Register, none: Label): void {
  asm.jump('==', bits, 0, none).mov(low, bits).neg(low).and(low, bits).xor(bits, low);
}
