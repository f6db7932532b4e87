/** Numbers of 32 bits with a mask that iproute2 may have a name for (/etc/iproute2/group, /etc/iproute2/rt_realms). */
import { OptionError } from '../extension.ts';
import { UINT32_MAX } from './bounded.ts';
import { formatMaskedMark, type MaskedMark, parseMaskedMark } from './mark.ts';

/** `value[/mask]`, or the one name that every host has, which is 0. @throws {OptionError} */
export function parseGroup(text: string, nameOfZero: string): MaskedMark {
  if (text === nameOfZero) return { value: 0, mask: UINT32_MAX };
  if (/^[0-9]/.test(text)) return parseMaskedMark(text);
  throw new OptionError(`"${text}" is not a number`, {
    hint: 'names other than that of 0 are known only to the host: write the number',
  });
}

/** The name of 0, else as a mark. */
export function formatGroup(group: MaskedMark, nameOfZero: string): string {
  return group.value === 0 && group.mask === UINT32_MAX ? nameOfZero : formatMaskedMark(group);
}
