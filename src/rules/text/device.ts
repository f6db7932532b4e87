/** Names of network devices in rules (libxtables/xtables.c: xtables_parse_interface). */
import { OptionError } from '../extension.ts';
import type { DeviceName } from '../model.ts';
import { byteLength } from './utf8.ts';

/** IFNAMSIZ - 1 */
const MAXIMUM_BYTES = 15;

/** A name, with "+" at its end the beginning of names. @throws {OptionError} when it is empty or too long. */
export function parseDevice(text: string, negate: boolean): DeviceName {
  if (text === '') throw new OptionError('a device name is empty');
  if (byteLength(text) > MAXIMUM_BYTES)
    throw new OptionError(`device name "${text}" is longer than ${MAXIMUM_BYTES} bytes`);
  const wildcard = text.endsWith('+');
  return { name: wildcard ? text.slice(0, -1) : text, wildcard, negate };
}

/** The name as it is written, without its negation. */
export function formatDevice(device: DeviceName): string {
  return device.wildcard ? `${device.name}+` : device.name;
}
