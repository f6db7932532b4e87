/**
 * `-m conntrack`: net/netfilter/xt_conntrack.c conntrack_mt, revision 3. A packet without a connection matches by
 * its state alone: the other conditions do not count for it, and without a state condition it never matches.
 */
import { type AddressField, CtStateBit, type Predicate, type ScalarField } from '../../../ir/index.ts';
import { applyMask, formatAddressBytes, matchesMask } from '../../../net/index.ts';
import type { ConntrackView, EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { formatProtocol, parseProtocol, protocolNames } from '../../names/protocols.ts';
import { formatPortRange, parsePortRange } from '../../names/services.ts';
import { didYouMean } from '../../suggestion.ts';
import { formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';
import { formatHostMask, type HostMask, parseHostMask } from '../../text/host.ts';
import { requireAny } from '../../text/requirement.ts';
import { unwritten } from '../../uapi/errno.ts';
import { type AbiForm, readAddress, writeBytes } from '../../uapi/payload.ts';
import { CONNTRACK_BYTES, ConntrackFlag, ConntrackPlace } from '../conntrack-info.ts';
import { connectionOf, formatStates, NO_CONNECTION, parseNames, stateBits, stateIs } from '../ct-state.ts';
import { fieldIn, fieldIs, inRange } from '../header.ts';

interface Range {
  readonly min: number;
  readonly max: number;
}

interface Negatable<T> {
  readonly value: T;
  readonly negate: boolean;
}

const ADDRESS_OPTIONS = ['ctorigsrc', 'ctorigdst', 'ctreplsrc', 'ctrepldst'] as const;
const PORT_OPTIONS = ['ctorigsrcport', 'ctorigdstport', 'ctreplsrcport', 'ctrepldstport'] as const;
type AddressOption = (typeof ADDRESS_OPTIONS)[number];
type PortOption = (typeof PORT_OPTIONS)[number];

interface ConntrackState {
  states?: Negatable<number>;
  protocol?: Negatable<number>;
  readonly addresses: Partial<Record<AddressOption, Negatable<HostMask>>>;
  readonly ports: Partial<Record<PortOption, Negatable<Range>>>;
  status?: Negatable<number>;
  expires?: Negatable<Range>;
  direction?: 'ORIGINAL' | 'REPLY';
}

const STATE_NAMES = [
  ['INVALID', CtStateBit.INVALID],
  ['NEW', CtStateBit.NEW],
  ['ESTABLISHED', CtStateBit.ESTABLISHED],
  ['RELATED', CtStateBit.RELATED],
  ['UNTRACKED', CtStateBit.UNTRACKED],
  ['SNAT', CtStateBit.SNAT],
  ['DNAT', CtStateBit.DNAT],
] as const;
/** IPS_EXPECTED, IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED. */
const STATUS_NAMES = [
  ['NONE', 0],
  ['EXPECTED', 1],
  ['SEEN_REPLY', 2],
  ['ASSURED', 4],
  ['CONFIRMED', 8],
] as const;

const ADDRESS_SUMMARY: Readonly<Record<AddressOption, string>> = {
  ctorigsrc: 'Source address of the original direction',
  ctorigdst: 'Destination address of the original direction',
  ctreplsrc: 'Source address of the reply direction',
  ctrepldst: 'Destination address of the reply direction',
};
const PORT_SUMMARY: Readonly<Record<PortOption, string>> = {
  ctorigsrcport: 'Source port of the original direction',
  ctorigdstport: 'Destination port of the original direction',
  ctreplsrcport: 'Source port of the reply direction',
  ctrepldstport: 'Destination port of the reply direction',
};

function connectionAddress(connection: ConntrackView, option: AddressOption): Uint8Array {
  switch (option) {
    case 'ctorigsrc':
      return connection.original.source;
    case 'ctorigdst':
      return connection.original.destination;
    case 'ctreplsrc':
      return connection.reply.source;
    case 'ctrepldst':
      return connection.reply.destination;
  }
}

function connectionPort(connection: ConntrackView, option: PortOption): number {
  switch (option) {
    case 'ctorigsrcport':
      return connection.original.sourcePort;
    case 'ctorigdstport':
      return connection.original.destinationPort;
    case 'ctreplsrcport':
      return connection.reply.sourcePort;
    case 'ctrepldstport':
      return connection.reply.destinationPort;
  }
}

const ADDRESS_FIELDS: Readonly<Record<AddressOption, AddressField>> = {
  ctorigsrc: 'ct.originalSource',
  ctorigdst: 'ct.originalDestination',
  ctreplsrc: 'ct.replySource',
  ctrepldst: 'ct.replyDestination',
};
const PORT_FIELDS: Readonly<Record<PortOption, ScalarField>> = {
  ctorigsrcport: 'ct.originalSourcePort',
  ctorigdstport: 'ct.originalDestinationPort',
  ctreplsrcport: 'ct.replySourcePort',
  ctrepldstport: 'ct.replyDestinationPort',
};

/** The first condition that fails, in the kernel's order and in words; `undefined` when the packet matches. */
function failure(state: ConntrackState, packet: EvaluationPacket): string | undefined {
  const relation = (negate: boolean): string => (negate ? 'is' : 'is not');
  const { states } = state;
  const bits = stateBits(packet);
  if (states !== undefined && ((bits & states.value) !== 0) === states.negate)
    return `ctstate ${formatStates(bits)} ${relation(states.negate)} ${formatStates(states.value)}`;
  const connection = connectionOf(packet);
  if (connection === undefined) return states === undefined ? 'the packet has no connection' : undefined;
  if (state.direction !== undefined && connection.direction !== state.direction.toLowerCase())
    return `ctdir ${connection.direction.toUpperCase()} is not ${state.direction}`;
  for (const option of ADDRESS_OPTIONS) {
    const wanted = state.addresses[option];
    if (wanted === undefined) continue;
    const address = connectionAddress(connection, option);
    if (sameUnderMask(address, wanted.value) === wanted.negate)
      return `${option} ${formatAddressBytes(address)} ${relation(wanted.negate)} ${formatHostMask(wanted.value)}`;
  }
  const { protocol } = state;
  if (protocol !== undefined && (connection.original.protocol === protocol.value) === protocol.negate)
    return `ctproto ${formatProtocol(connection.original.protocol)} ${relation(protocol.negate)} ${formatProtocol(protocol.value)}`;
  for (const option of PORT_OPTIONS) {
    const wanted = state.ports[option];
    if (wanted === undefined) continue;
    const port = connectionPort(connection, option);
    if (!inRange(port, wanted.value, wanted.negate))
      return `${option} ${port} ${relation(wanted.negate)} ${formatPortRange(wanted.value)}`;
  }
  const { status } = state;
  if (status !== undefined && ((connection.status & status.value) !== 0) === status.negate)
    return `ctstatus ${formatStatus(connection.status)} ${relation(status.negate)} ${formatStatus(status.value)}`;
  const { expires } = state;
  if (expires !== undefined && !inRange(connection.expiresSec, expires.value, expires.negate))
    return `ctexpire ${connection.expiresSec} ${relation(expires.negate)} ${formatNumberRange(expires.value)}`;
  return undefined;
}

/** Bits outside the mask do not count, on either side. */
function sameUnderMask(address: Uint8Array, wanted: HostMask): boolean {
  return matchesMask(address, wanted.address, wanted.mask);
}

function formatStatus(bits: number): string {
  const names = STATUS_NAMES.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);
  return names.join(',') || 'NONE';
}

function lower(state: ConntrackState): Predicate[] {
  const { states, protocol, status, expires } = state;
  const own: Predicate[] = [];
  if (state.direction !== undefined) own.push(fieldIs('ct.direction', state.direction === 'REPLY' ? 1 : 0));
  for (const option of ADDRESS_OPTIONS) {
    const wanted = state.addresses[option];
    if (wanted === undefined) continue;
    own.push({
      kind: 'address',
      field: ADDRESS_FIELDS[option],
      value: applyMask(wanted.value.address, wanted.value.mask),
      mask: wanted.value.mask,
      negate: wanted.negate,
    });
  }
  if (protocol !== undefined) own.push(fieldIs('ct.protocol', protocol.value, protocol.negate));
  for (const option of PORT_OPTIONS) {
    const wanted = state.ports[option];
    if (wanted === undefined) continue;
    own.push(rangeOf(PORT_FIELDS[option], wanted));
  }
  if (status !== undefined)
    own.push({
      kind: 'scalar',
      field: 'ct.status',
      mask: status.value,
      ranges: [[1, UINT32_MAX]],
      negate: status.negate,
    });
  if (expires !== undefined) own.push(rangeOf('ct.expires', expires));
  if (states === undefined) return [stateIs(NO_CONNECTION, true), ...own];
  const predicates: Predicate[] = [stateIs(states.value, states.negate)];
  if (own.length > 0)
    predicates.push({ kind: 'any', of: [stateIs(NO_CONNECTION, false), { kind: 'all', of: own }] });
  return predicates;
}

/** A range that runs backwards holds nothing. */
function rangeOf(field: ScalarField, { value, negate }: Negatable<Range>): Predicate {
  return fieldIn(field, value.min > value.max ? [] : [[value.min, value.max]], negate);
}

function addressOption(name: AddressOption): OptionSpec<ConntrackState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'address[/mask]',
    summary: ADDRESS_SUMMARY[name],
    apply(state, [value], negate, context) {
      state.addresses[name] = { value: parseHostMask(value!, context.family), negate };
    },
  };
}

function portOption(name: PortOption): OptionSpec<ConntrackState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'port[:port]',
    summary: PORT_SUMMARY[name],
    apply(state, [value], negate) {
      state.ports[name] = { value: parsePortRange(value!, undefined, true), negate };
    },
  };
}

function print(state: ConntrackState): string {
  let text = '';
  const add = (option: string, value: string, negate: boolean): void => {
    text += `${negate ? ' !' : ''} --${option} ${value}`;
  };
  const { states, protocol, status, expires, direction } = state;
  if (states !== undefined) add('ctstate', formatStates(states.value), states.negate);
  if (protocol !== undefined) add('ctproto', String(protocol.value), protocol.negate);
  for (const option of ADDRESS_OPTIONS) {
    const wanted = state.addresses[option];
    if (wanted !== undefined) add(option, formatHostMask(wanted.value), wanted.negate);
  }
  for (const option of PORT_OPTIONS) {
    const wanted = state.ports[option];
    if (wanted !== undefined) add(option, formatPortRange(wanted.value), wanted.negate);
  }
  if (status !== undefined) add('ctstatus', formatStatus(status.value), status.negate);
  if (expires !== undefined) add('ctexpire', formatNumberRange(expires.value), expires.negate);
  if (direction !== undefined) add('ctdir', direction, false);
  return text;
}

/** struct xt_conntrack_mtinfo1, 2 or 3. Ports are in network order before revision 3, and one only. */
function conntrackForm(revision: 1 | 2 | 3): AbiForm<ConntrackState> {
  const size = revision === 3 ? CONNTRACK_BYTES : revision === 2 ? 156 : 152;
  const host = revision === 3;
  return {
    name: 'conntrack',
    revision,
    everyFamily: true,
    size,
    decode(view, { family }) {
      const match = view.getUint16(ConntrackPlace.MATCH, true);
      const invert = view.getUint16(ConntrackPlace.INVERT, true);
      if ((match & ConntrackFlag.STATE_ALIAS) !== 0) return undefined;
      if ((match & ~ConntrackFlag.ALL) !== 0) unwritten('conntrack has unknown flags');
      const when = <T>(flag: number, value: () => T): Negatable<T> | undefined =>
        (match & flag) === 0 ? undefined : { value: value(), negate: (invert & flag) !== 0 };
      const small = (offset: number, offset1: number): number =>
        revision === 1 ? view.getUint8(offset1) : view.getUint16(offset, true);
      const state: ConntrackState = { addresses: {}, ports: {} };
      const states = when(ConntrackFlag.STATE, () => small(ConntrackPlace.STATE, 150));
      const protocol = when(ConntrackFlag.PROTOCOL, () => view.getUint16(ConntrackPlace.PROTOCOL, true));
      const status = when(ConntrackFlag.STATUS, () => small(ConntrackPlace.STATUS, 151));
      const expires = when(ConntrackFlag.EXPIRES, () => ({
        min: view.getUint32(ConntrackPlace.EXPIRES_MIN, true),
        max: view.getUint32(ConntrackPlace.EXPIRES_MAX, true),
      }));
      if (states !== undefined) state.states = states;
      if (protocol !== undefined) state.protocol = protocol;
      if (status !== undefined) state.status = status;
      if (expires !== undefined) state.expires = expires;
      for (const [index, option] of ADDRESS_OPTIONS.entries()) {
        const address = when(ConntrackFlag.ORIGINAL_SOURCE << index, () => ({
          address: readAddress(view, 32 * index, family),
          mask: readAddress(view, 32 * index + 16, family),
        }));
        if (address !== undefined) state.addresses[option] = address;
      }
      for (const [index, option] of PORT_OPTIONS.entries()) {
        const port = when(ConntrackFlag.ORIGINAL_SOURCE_PORT << index, () => {
          const min = view.getUint16(ConntrackPlace.PORTS + 2 * index, host);
          return { min, max: host ? view.getUint16(ConntrackPlace.HIGH_PORTS + 2 * index, true) : min };
        });
        if (port !== undefined) state.ports[option] = port;
      }
      if ((match & ConntrackFlag.DIRECTION) !== 0)
        state.direction = (invert & ConntrackFlag.DIRECTION) !== 0 ? 'REPLY' : 'ORIGINAL';
      return state;
    },
    encode(state, view) {
      let match = 0;
      let invert = 0;
      const put = <T>(flag: number, one: Negatable<T> | undefined, write: (value: T) => void): void => {
        if (one === undefined) return;
        match |= flag;
        if (one.negate) invert |= flag;
        write(one.value);
      };
      const small = (offset: number, offset1: number, value: number): void =>
        revision === 1 ? view.setUint8(offset1, value) : view.setUint16(offset, value, true);
      put(ConntrackFlag.STATE, state.states, (bits) => small(ConntrackPlace.STATE, 150, bits));
      put(ConntrackFlag.PROTOCOL, state.protocol, (number) =>
        view.setUint16(ConntrackPlace.PROTOCOL, number, true),
      );
      put(ConntrackFlag.STATUS, state.status, (bits) => small(ConntrackPlace.STATUS, 151, bits));
      put(ConntrackFlag.EXPIRES, state.expires, ({ min, max }) => {
        view.setUint32(ConntrackPlace.EXPIRES_MIN, min, true);
        view.setUint32(ConntrackPlace.EXPIRES_MAX, max, true);
      });
      for (const [index, option] of ADDRESS_OPTIONS.entries())
        put(ConntrackFlag.ORIGINAL_SOURCE << index, state.addresses[option], ({ address, mask }) => {
          writeBytes(view, 32 * index, address);
          // A mask of all bits is the one that stands there before: it fills the place of an IPv6 one.
          const whole = mask.every((byte) => byte === 0xff);
          writeBytes(view, 32 * index + 16, whole ? new Uint8Array(16).fill(0xff) : mask);
        });
      for (const [index, option] of PORT_OPTIONS.entries())
        put(ConntrackFlag.ORIGINAL_SOURCE_PORT << index, state.ports[option], ({ min, max }) => {
          view.setUint16(ConntrackPlace.PORTS + 2 * index, min, host);
          if (host) view.setUint16(ConntrackPlace.HIGH_PORTS + 2 * index, max, true);
        });
      if (state.direction !== undefined) {
        match |= ConntrackFlag.DIRECTION;
        if (state.direction === 'REPLY') invert |= ConntrackFlag.DIRECTION;
      }
      view.setUint16(ConntrackPlace.MATCH, match, true);
      view.setUint16(ConntrackPlace.INVERT, invert, true);
    },
  };
}

export const conntrack: MatchExtension = defineMatch<ConntrackState>({
  name: 'conntrack',
  families: ['ipv4', 'ipv6'],
  summary: 'State, addresses, ports and lifetime of the connection a packet belongs to',
  options: [
    {
      name: 'ctstate',
      arguments: 1,
      negatable: true,
      syntax: 'state[,…]',
      summary: 'One of INVALID, NEW, ESTABLISHED, RELATED, UNTRACKED, SNAT, DNAT',
      apply(state, [value], negate) {
        state.states = { value: parseNames(value!, STATE_NAMES), negate };
      },
    },
    {
      name: 'ctproto',
      arguments: 1,
      negatable: true,
      syntax: 'protocol',
      summary: 'Transport protocol of the connection',
      apply(state, [value], negate) {
        const number = parseProtocol(value!);
        if (number === undefined) {
          const hint = didYouMean(value!, protocolNames());
          throw new OptionError(`unknown protocol "${value}"`, hint === undefined ? {} : { hint });
        }
        state.protocol = { value: number, negate };
      },
    },
    ...ADDRESS_OPTIONS.map(addressOption),
    ...PORT_OPTIONS.map(portOption),
    {
      name: 'ctstatus',
      arguments: 1,
      negatable: true,
      syntax: 'status[,…]',
      summary: 'Any of EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED is set; NONE matches nothing by itself',
      apply(state, [value], negate) {
        state.status = { value: parseNames(value!, STATUS_NAMES), negate };
      },
    },
    {
      name: 'ctexpire',
      arguments: 1,
      negatable: true,
      syntax: 'seconds[:seconds]',
      summary: 'Seconds until the connection is forgotten, or a range of them',
      apply(state, [value], negate) {
        state.expires = { value: numberRange(value!, UINT32_MAX), negate };
      },
    },
    {
      name: 'ctdir',
      arguments: 1,
      syntax: 'ORIGINAL|REPLY',
      summary: 'Direction of the packet within the connection',
      apply(state, [value]) {
        const upper = value!.toUpperCase();
        if (upper !== 'ORIGINAL' && upper !== 'REPLY')
          throw new OptionError(`"${value}" is no direction`, { hint: 'ORIGINAL or REPLY' });
        state.direction = upper;
      },
    },
  ],
  initial: () => ({ addresses: {}, ports: {} }),
  finish(state) {
    requireAny('conntrack', {
      ctstate: state.states !== undefined,
      ctproto: state.protocol !== undefined,
      ctorigsrc: Object.keys(state.addresses).length > 0,
      ctorigsrcport: Object.keys(state.ports).length > 0,
      ctstatus: state.status !== undefined,
      ctexpire: state.expires !== undefined,
      ctdir: state.direction !== undefined,
    });
  },
  list: (state) => print(state).replaceAll(' --', ' '),
  print,
  abi: [conntrackForm(3), conntrackForm(2), conntrackForm(1)],
  semantics: {
    evaluate: (state, packet) => failure(state, packet) === undefined,
    lower,
    explain: (state, packet) => failure(state, packet) ?? 'matches',
  },
});
