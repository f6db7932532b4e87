/**
 * What DNAT, SNAT, MASQUERADE and REDIRECT put in place of addresses and ports: struct nf_nat_range2
 * (extensions/libxt_NAT.c, net/netfilter/nf_nat_core.c).
 */
import { type Family, formatAddressBytes, parseAddress } from '../../net/index.ts';
import { OptionError, type OptionSpec, type RuleContext } from '../extension.ts';
import { Protocol } from '../names/protocols.ts';
import { parsePort, servicePort } from '../names/services.ts';
import { parseUnsigned, splitNumber } from '../text/number.ts';
import { refuse } from '../uapi/errno.ts';
import { type AbiForm, readAddress, writeBytes } from '../uapi/payload.ts';

export interface NatPorts {
  readonly min: number;
  readonly max: number;
  /** The destination port that is mapped to `min`, the others after it in order. */
  readonly base: number | undefined;
}

export interface NatRange {
  /** Inclusive, of the family of the rule. */
  addresses: { readonly min: Uint8Array; readonly max: Uint8Array } | undefined;
  ports: NatPorts | undefined;
  /** The option that says where to was given. */
  given: boolean;
  random: boolean;
  randomFully: boolean;
  persistent: boolean;
}

export function emptyNatRange(): NatRange {
  return {
    addresses: undefined,
    ports: undefined,
    given: false,
    random: false,
    randomFully: false,
    persistent: false,
  };
}

/** Also for IPv6, where ICMP is another protocol. */
const PROTOCOLS_WITH_PORTS: readonly number[] = [
  Protocol.TCP,
  Protocol.UDP,
  Protocol.SCTP,
  Protocol.DCCP,
  Protocol.ICMP,
];

function parseBase(text: string): number {
  const base = parseUnsigned(text, 1, 0xffff) ?? servicePort(text);
  if (base === undefined) throw new OptionError(`"${text}" is not a port from 1 to 65535`);
  return base;
}

/** `port[-port[/port]]`; names of services stand alone. @throws {OptionError} */
function parsePorts(text: string, context: RuleContext, shifted: boolean): NatPorts {
  if (!PROTOCOLS_WITH_PORTS.includes(context.protocol?.number ?? 0))
    throw new OptionError('ports need a protocol that has them', {
      hint: '-p tcp, udp, sctp or dccp has to stand before',
    });
  const number = splitNumber(text);
  if (number === undefined || number.rest === '' || number.value > 0xffffn) {
    const port = parsePort(text);
    return { min: port, max: port, base: undefined };
  }
  const min = Number(number.value);
  if (!number.rest.startsWith('-'))
    throw new OptionError(`"${number.rest}" after port ${min} is not understood`, {
      hint: 'a range is written with a dash',
    });
  const slash = number.rest.indexOf('/');
  const max = parseUnsigned(slash < 0 ? number.rest.slice(1) : number.rest.slice(1, slash), 0, 0xffff);
  if (max === undefined) throw new OptionError(`"${number.rest.slice(1)}" is not a port from 0 to 65535`);
  if (max < min)
    throw new OptionError(`port range ${min}-${max} is backwards`, { hint: `write ${max}-${min}` });
  if (slash < 0) return { min, max, base: undefined };
  if (!shifted) throw new OptionError('only DNAT can shift a range of ports');
  return { min, max, base: parseBase(number.rest.slice(slash + 1)) };
}

function parseOneAddress(text: string, family: Family): Uint8Array {
  const address = parseAddress(text);
  if (address?.family !== family)
    throw new OptionError(`"${text}" is not an ${family === 'ipv4' ? 'IPv4' : 'IPv6'} address`);
  return address.bytes;
}

/** Where the address ends and ":ports" begins. A second colon without brackets makes the whole an IPv6 address. */
function splitDestination(
  text: string,
  family: Family,
): { readonly host: string; readonly ports: string | undefined } {
  if (text.includes('[')) {
    const match = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
    if (match === null || family === 'ipv4')
      throw new OptionError(`"${text}" is not an address with a port`, {
        hint: family === 'ipv4' ? 'brackets are for IPv6' : 'for example [2001:db8::1]:80',
      });
    return { host: match[1]!, ports: match[2] };
  }
  const colon = text.indexOf(':');
  if (colon < 0 || text.includes(':', colon + 1)) return { host: text, ports: undefined };
  return { host: text.slice(0, colon), ports: text.slice(colon + 1) };
}

/** `[address[-address]][:ports]`. @throws {OptionError} */
function parseDestination(range: NatRange, text: string, context: RuleContext, shifted: boolean): void {
  const { host, ports } = splitDestination(text, context.family);
  if (ports !== undefined) range.ports = parsePorts(ports, context, shifted);
  if (host === '' && ports !== undefined) return;
  const dash = host.indexOf('-');
  const min = parseOneAddress(dash < 0 ? host : host.slice(0, dash), context.family);
  const max = dash < 0 ? min : parseOneAddress(host.slice(dash + 1), context.family);
  range.addresses = { min, max };
}

/** `--to-destination` or `--to-source`; `shifted` allows "/port" after a range of ports. */
export function natAddressOption(name: string, what: string, shifted: boolean): OptionSpec<NatRange> {
  return {
    name,
    arguments: 1,
    syntax: `[address[-address]][:port[-port${shifted ? '[/port]' : ''}]]`,
    summary: `The new ${what} address, and port with -p; one of several where there are ranges`,
    apply(range, [value], _negated, context) {
      parseDestination(range, value!, context, shifted);
      range.given = true;
    },
  };
}

/** `--to-ports` */
export function natPortsOption(summary: string): OptionSpec<NatRange> {
  return {
    name: 'to-ports',
    arguments: 1,
    syntax: 'port[-port]',
    summary,
    apply(range, [value], _negated, context) {
      range.ports = parsePorts(value!, context, false);
      range.given = true;
    },
  };
}

const FLAGS = {
  random: ['random', 'Ports are chosen at random'],
  randomFully: ['random-fully', 'Ports are chosen at random, by a stronger generator'],
  persistent: ['persistent', 'A client gets the same address for each connection'],
} as const;

export function natFlagOption(key: keyof typeof FLAGS): OptionSpec<NatRange> {
  const [name, summary] = FLAGS[key];
  return {
    name,
    arguments: 0,
    summary,
    apply(range) {
      range[key] = true;
    },
  };
}

function formatAddresses({ addresses, ports }: NatRange): string {
  if (addresses === undefined) return '';
  const min = formatAddressBytes(addresses.min);
  const max = formatAddressBytes(addresses.max);
  const text = min === max ? min : `${min}-${max}`;
  return addresses.min.length === 16 && ports !== undefined ? `[${text}]` : text;
}

function formatPorts({ min, max, base }: NatPorts): string {
  return `${min}${max === min ? '' : `-${max}`}${base === undefined ? '' : `/${base}`}`;
}

/** The range after its option, then the flags. Without addresses ports stand alone after `--to-ports`, after a colon elsewhere. */
export function printNatRange(option: string, range: NatRange): string {
  let text = '';
  if (range.given) {
    const colon = option === 'to-ports' ? '' : ':';
    const ports = range.ports === undefined ? '' : `${colon}${formatPorts(range.ports)}`;
    text = ` --${option} ${formatAddresses(range)}${ports}`;
  }
  for (const key of ['random', 'randomFully', 'persistent'] as const)
    if (range[key]) text += ` --${FLAGS[key][0]}`;
  return text;
}

/** NF_NAT_RANGE_* */
const RangeFlag = {
  ADDRESSES: 0x1,
  PORTS: 0x2,
  RANDOM: 0x4,
  PERSISTENT: 0x8,
  RANDOM_FULLY: 0x10,
  OFFSET: 0x20,
} as const;

type NatLayout = 'compat' | 'range' | 'range2';

/** Places in struct nf_nat_ipv4_multi_range_compat with its one range, nf_nat_range and nf_nat_range2. */
const NAT_PLACES = {
  compat: { flags: 4, min: 8, max: 12, minPort: 16, maxPort: 18, size: 20 },
  range: { flags: 0, min: 4, max: 20, minPort: 36, maxPort: 38, size: 40 },
  range2: { flags: 0, min: 4, max: 20, minPort: 36, maxPort: 38, size: 44 },
} as const;
const BASE_PORT_AT = 40;

/** One revision of a target that translates; numbers of ports are in network order. */
export function natForm(
  name: string,
  revision: number,
  layout: NatLayout,
  families?: readonly Family[],
): AbiForm<NatRange> {
  const at = NAT_PLACES[layout];
  return {
    name,
    revision,
    everyFamily: layout === 'range2',
    ...(families && { families }),
    size: at.size,
    decode(view, { family }) {
      if (layout === 'compat' && view.getUint32(0, true) !== 1) refuse(`${name} takes one range`);
      const flags = view.getUint32(at.flags, true);
      const has = (flag: number): boolean => (flags & flag) !== 0;
      const ports = {
        min: view.getUint16(at.minPort),
        max: view.getUint16(at.maxPort),
        base: has(RangeFlag.OFFSET) ? view.getUint16(BASE_PORT_AT) : undefined,
      };
      return {
        addresses: has(RangeFlag.ADDRESSES)
          ? { min: readAddress(view, at.min, family), max: readAddress(view, at.max, family) }
          : undefined,
        ports: has(RangeFlag.PORTS) ? ports : undefined,
        given: has(RangeFlag.ADDRESSES) || has(RangeFlag.PORTS),
        random: has(RangeFlag.RANDOM),
        randomFully: has(RangeFlag.RANDOM_FULLY),
        persistent: has(RangeFlag.PERSISTENT),
      };
    },
    encode({ addresses, ports, random, randomFully, persistent }, view) {
      let flags = random ? RangeFlag.RANDOM : 0;
      if (randomFully) flags |= RangeFlag.RANDOM_FULLY;
      if (persistent) flags |= RangeFlag.PERSISTENT;
      if (layout === 'compat') view.setUint32(0, 1, true);
      if (addresses !== undefined) {
        flags |= RangeFlag.ADDRESSES;
        writeBytes(view, at.min, addresses.min);
        writeBytes(view, at.max, addresses.max);
      }
      if (ports !== undefined) {
        flags |= RangeFlag.PORTS;
        view.setUint16(at.minPort, ports.min);
        view.setUint16(at.maxPort, ports.max);
      }
      if (ports?.base !== undefined) {
        flags |= RangeFlag.OFFSET;
        view.setUint16(BASE_PORT_AT, ports.base);
      }
      view.setUint32(at.flags, flags, true);
    },
  };
}
