/** The program's stack frame: offsets from r10. */
import { KEY } from '../layout.ts';

export const Frame = {
  /** Keys, and one word more so that a key's offset need only be masked. */
  keys: -64,
  flowKey: -104,
  flowValue: -120,
  /** u32 each */
  metricsKey: -128,
  slot: -132,
  members: -136,
  destination: -140,
  hash: -144,
  walkIndex: -148,
  walkLeft: -152,
  region: -156,
} as const;
export const KEY_MASK = 0x38;

/** Offset of a key from r10. */
export function keySlot(name: keyof typeof KEY): number {
  return Frame.keys + KEY[name];
}
