/** Device names: 16 bytes of struct net_device, four words, compared as iptables does. */
import { R2, R10, type Register } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';

/** Stores the name of the net_device in `device` (which may be null: empty name). Uses r2. */
export function emitDeviceName(emission: Emission, fact: 'inDevice' | 'outDevice', device: Register): void {
  const { asm, facts } = emission;
  for (let word = 0; word < 4; word++) {
    asm.loadField('u32', R2, device, 'net_device', 'name', word * 4);
    asm.store('u32', R10, facts.offset(fact, word), R2);
  }
}

/** Stores the empty name: a side that has no device. */
export function emitNoDevice(emission: Emission, fact: 'inDevice' | 'outDevice'): void {
  const { asm, facts } = emission;
  for (let word = 0; word < 4; word++) asm.store('u32', R10, facts.offset(fact, word), 0);
}
