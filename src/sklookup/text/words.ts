/** The words of a bindings file: what each may be. Both forms, text and JSON, read their values here. */
import {
  ALL_PORTS,
  networkOf,
  type PortRange,
  type Prefix,
  parsePortRange,
  parsePrefix,
} from '../../net/index.ts';
import { isLabel, type Protocol } from '../binding.ts';

/** A value, or why it is none and the way out. */
export type Read<T> = { readonly value: T } | { readonly message: string; readonly hint: string };

export function readLabel(text: string): Read<string> {
  if (isLabel(text)) return { value: text };
  return {
    message: `"${text}" is no label`,
    hint: 'a label has 1 to 63 letters, digits, ".", "_" and "-", and does not begin with "-"',
  };
}

export function readProtocol(text: string): Read<Protocol> {
  if (text === 'tcp' || text === 'udp') return { value: text };
  return { message: `"${text}" is no protocol`, hint: 'give tcp or udp' };
}

/** A prefix; host bits are cleared. */
export function readPrefix(text: string): Read<Prefix> {
  const prefix = parsePrefix(text);
  if (prefix === undefined) {
    return {
      message: `"${text}" is no address or prefix`,
      hint: 'give one as 192.0.2.0/24 or 2001:db8::/32',
    };
  }
  const whole = prefix.length === prefix.address.bytes.length * 8;
  return { value: whole ? prefix : networkOf(prefix) };
}

/** A port, a range or all of them. Port 0 means nothing in a packet. */
export function readPorts(text: string): Read<PortRange> {
  if (text === 'all') return { value: ALL_PORTS };
  const ports = parsePortRange(text);
  if (ports === undefined) {
    return { message: `"${text}" is no port or range of ports`, hint: 'give 443, 8000-8999 or all' };
  }
  if (ports.min === 0 && ports.max < ALL_PORTS.max)
    return { message: 'there is no port 0', hint: 'give "all" for every port' };
  return { value: ports };
}

export function readRemotePort(text: string): Read<number> {
  const ports = parsePortRange(text);
  if (ports !== undefined && ports.min === ports.max && ports.min > 0) return { value: ports.min };
  return { message: `"${text}" is no port`, hint: 'give a number from 1 to 65535' };
}

/** Names of devices as dev_valid_name of net/core/dev.c takes them. */
export function readDevice(text: string): Read<string> {
  if (/^[^\s/:]{1,15}$/.test(text) && text !== '.' && text !== '..') return { value: text };
  return {
    message: `"${text}" is no name of a device`,
    hint: 'a name has 1 to 15 characters without "/" and ":"',
  };
}

/** One of some words. */
export function readChoice<const T extends string>(text: string, choices: readonly T[]): Read<T> {
  const value = choices.find((choice) => choice === text);
  if (value !== undefined) return { value };
  return { message: `"${text}" is none of ${choices.join(', ')}`, hint: `give ${choices.join(' or ')}` };
}
