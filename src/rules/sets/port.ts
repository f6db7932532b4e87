/** Ports with their protocol, as entries of IP sets have them: "80", "udp:53", "icmp:echo-request", "icmp:3/1", "gre:0". */

import { ICMP_TYPES, ICMP6_TYPES, type NamedType } from '../names/icmp-types.ts';
import { formatProtocol, parseProtocol } from '../names/protocols.ts';
import { servicePort } from '../names/services.ts';
import { SetError } from './error.ts';

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
/** TCP, UDP, SCTP, UDPLITE */
const WITH_PORTS: ReadonlySet<number> = new Set([TCP, UDP, 132, 136]);

/** True for protocols whose entries may name a range of ports. */
export function hasPorts(protocol: number): boolean {
  return WITH_PORTS.has(protocol);
}

/** The words of a key for these ports. @throws {SetError} */
export function parsePorts(text: string): number[] {
  const colon = text.indexOf(':');
  const protocol = colon < 0 ? TCP : parseProtocol(text.slice(0, colon));
  if (protocol === undefined || protocol === 0) throw new SetError(`unknown protocol in "${text}"`);
  const rest = text.slice(colon + 1);
  if (protocol === ICMP || protocol === ICMPV6) {
    return [portWord(protocol, parseIcmp(rest, protocol === ICMP ? ICMP_TYPES : ICMP6_TYPES))];
  }
  if (!hasPorts(protocol)) {
    if (rest !== '0') throw new SetError(`${formatProtocol(protocol)} has no ports: write 0 for the port`);
    return [portWord(protocol, 0)];
  }
  return parsePortNumbers(rest).map((port) => portWord(protocol, port));
}

/** `port` or `first-last`. @throws {SetError} */
export function parsePortNumbers(text: string): number[] {
  const dash = text.indexOf('-');
  const whole = portNumber(text);
  if (whole !== undefined) return [whole];
  const first = dash < 0 ? undefined : portNumber(text.slice(0, dash));
  const last = dash < 0 ? undefined : portNumber(text.slice(dash + 1));
  if (first === undefined || last === undefined)
    throw new SetError(`"${text}" is no port`, 'ports are 0 to 65535, or first-last');
  const [low, high] = first <= last ? [first, last] : [last, first];
  return Array.from({ length: high - low + 1 }, (_, index) => low + index);
}

function portNumber(text: string): number | undefined {
  if (/^[0-9]{1,5}$/.test(text)) {
    const port = Number(text);
    return port <= 0xffff ? port : undefined;
  }
  return servicePort(text, 'tcp');
}

export function portWord(protocol: number, port: number): number {
  return ((protocol << 16) | port) >>> 0;
}

/** "tcp:80" */
export function formatPort(word: number): string {
  const protocol = word >>> 16;
  const port = word & 0xffff;
  const name = formatProtocol(protocol);
  if (protocol === ICMP) return `${name}:${formatIcmp(port, ICMP_TYPES)}`;
  if (protocol === ICMPV6) return `${name}:${formatIcmp(port, ICMP6_TYPES)}`;
  return `${name}:${port}`;
}

function parseIcmp(text: string, names: readonly NamedType[]): number {
  const named = names.find(([name]) => name === text.toLowerCase());
  if (named !== undefined) return (named[1] << 8) | named[2];
  const numbers = /^([0-9]{1,3})\/([0-9]{1,3})$/.exec(text);
  const type = Number(numbers?.[1] ?? 256);
  const code = Number(numbers?.[2] ?? 256);
  if (type > 255 || code > 255) throw new SetError(`"${text}" is no ICMP type`, 'a name, or type/code');
  return (type << 8) | code;
}

function formatIcmp(port: number, names: readonly NamedType[]): string {
  const type = port >>> 8;
  const code = port & 0xff;
  const exact = names.find(([, own, low, high]) => own === type && low === code && high === code);
  const whole =
    code === 0 ? names.find(([, own, low, high]) => own === type && low === 0 && high === 255) : undefined;
  return (exact ?? whole)?.[0] ?? `${type}/${code}`;
}
