/** `-j CT`: net/netfilter/xt_CT.c, revision 2. Whether helper and timeout policy exist is for the host to say. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { CONNTRACK_HELPERS } from '../../names/conntrack-helpers.ts';
import { formatProtocol } from '../../names/protocols.ts';
import { didYouMean } from '../../suggestion.ts';
import { parseUnsigned } from '../../text/number.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { type AbiForm, readText, writeText } from '../../uapi/payload.ts';

/** Sizes of struct xt_ct_target_info_v1 less the terminators. */
const HELPER_BYTES = 15;
const TIMEOUT_BYTES = 31;

/** Names and bits of enum ip_conntrack_events, in the order of printing. */
const CONNECTION_EVENTS: readonly (readonly [name: string, bit: number])[] = [
  ['new', 0],
  ['related', 1],
  ['destroy', 2],
  ['reply', 3],
  ['assured', 4],
  ['protoinfo', 5],
  ['helper', 6],
  ['mark', 7],
  ['natseqinfo', 8],
  ['secmark', 9],
];
/** enum ip_conntrack_expect_events */
const EXPECTATION_EVENTS: readonly (readonly [name: string, bit: number])[] = [['new', 0]];

interface CtState {
  noTrack: boolean;
  helper: string;
  timeout: string;
  /** Bits of events; 0 when not given. */
  connectionEvents: number;
  expectationEvents: number;
  zone: number;
  /** The zone is the mark of the packet. */
  zoneFromMark: boolean;
  /** Directions that were named; both or none for both. */
  zoneOriginal: boolean;
  zoneReply: boolean;
}

function parseEvents(text: string, events: readonly (readonly [name: string, bit: number])[]): number {
  let bits = 0;
  for (const word of text.split(',')) {
    const event = events.find(([name]) => name === word);
    if (event === undefined) {
      const names = events.map(([name]) => name);
      throw new OptionError(`unknown event "${word}"`, {
        hint: didYouMean(word, names) ?? `events are ${names.join(', ')}`,
      });
    }
    bits |= 1 << event[1];
  }
  return bits;
}

function printEvents(
  option: string,
  bits: number,
  events: readonly (readonly [name: string, bit: number])[],
): string {
  if (bits === 0) return '';
  const names = events.filter(([, bit]) => (bits & (1 << bit)) !== 0).map(([name]) => name);
  return ` --${option} ${names.join(',')}`;
}

function events(
  name: string,
  key: 'connectionEvents' | 'expectationEvents',
  known: readonly (readonly [name: string, bit: number])[],
  summary: string,
): OptionSpec<CtState> {
  return {
    name,
    arguments: 1,
    syntax: 'event[,…]',
    summary,
    apply(state, [value]) {
      state[key] = parseEvents(value!, known);
    },
  };
}

/** The three options share one zone: the last number counts, directions and "mark" add up. */
function zone(
  name: string,
  key: 'zoneOriginal' | 'zoneReply' | undefined,
  summary: string,
): OptionSpec<CtState> {
  return {
    name,
    arguments: 1,
    syntax: 'number|mark',
    summary,
    apply(state, [value]) {
      const fromMark = value!.toLowerCase() === 'mark';
      const number = fromMark ? 0 : parseUnsigned(value!, 0, 0xffff);
      if (number === undefined)
        throw new OptionError(`"${value}" is not a zone`, { hint: 'a number from 0 to 65535, or mark' });
      state.zone = number;
      if (fromMark) state.zoneFromMark = true;
      if (key !== undefined) state[key] = true;
    },
  };
}

function printZone(state: CtState): string {
  if (!state.zoneFromMark && state.zone === 0) return '';
  const direction = state.zoneOriginal === state.zoneReply ? '' : state.zoneOriginal ? '-orig' : '-reply';
  return ` --zone${direction} ${state.zoneFromMark ? 'mark' : state.zone}`;
}

/** XT_CT_* */
const Flag = { NOTRACK: 0x1, ALIAS: 0x2, ORIGINAL: 0x4, REPLY: 0x8, MARK: 0x10 } as const;

function ctForm(revision: number, size: number): AbiForm<CtState> {
  const userSize = size - 8;
  const known = revision === 2 ? 0x1f : revision === 1 ? Flag.NOTRACK | Flag.ALIAS : Flag.NOTRACK;
  return {
    name: 'CT',
    revision,
    size,
    userSize,
    decode(view) {
      const flags = view.getUint16(0, true);
      if ((flags & ~known) !== 0) refuse(`CT has unknown flags 0x${flags.toString(16)}`);
      if ((flags & Flag.ALIAS) !== 0) return undefined;
      return {
        noTrack: (flags & Flag.NOTRACK) !== 0,
        helper: readText(view, 12, HELPER_BYTES + 1),
        timeout: revision === 0 ? '' : readText(view, 28, TIMEOUT_BYTES + 1),
        connectionEvents: view.getUint32(4, true),
        expectationEvents: view.getUint32(8, true),
        zone: view.getUint16(2, true),
        zoneFromMark: (flags & Flag.MARK) !== 0,
        zoneOriginal: (flags & Flag.ORIGINAL) !== 0,
        zoneReply: (flags & Flag.REPLY) !== 0,
      };
    },
    encode(state, view) {
      let flags = state.noTrack ? Flag.NOTRACK : 0;
      if (state.zoneOriginal) flags |= Flag.ORIGINAL;
      if (state.zoneReply) flags |= Flag.REPLY;
      if (state.zoneFromMark) flags |= Flag.MARK;
      view.setUint16(0, flags, true);
      view.setUint16(2, state.zone, true);
      view.setUint32(4, state.connectionEvents, true);
      view.setUint32(8, state.expectationEvents, true);
      writeText(view, 12, HELPER_BYTES + 1, state.helper);
      if (revision > 0) writeText(view, 28, TIMEOUT_BYTES + 1, state.timeout);
    },
  };
}

export const ct: TargetExtension = defineTarget<CtState>({
  name: 'CT',
  families: ['ipv4', 'ipv6'],
  summary: 'Says how the connection is tracked, or that it is not, and goes on',
  where: { tables: ['raw'] },
  options: [
    {
      name: 'notrack',
      arguments: 0,
      summary: 'The packet is not tracked',
      apply(state) {
        state.noTrack = true;
      },
    },
    {
      name: 'helper',
      arguments: 1,
      syntax: 'name',
      summary: 'The helper that expects further connections of this one (with -p)',
      apply(state, [value]) {
        state.helper = cutToBytes(value!, HELPER_BYTES);
      },
    },
    {
      name: 'timeout',
      arguments: 1,
      syntax: 'name',
      summary: 'The policy of timeouts (with -p)',
      apply(state, [value]) {
        state.timeout = cutToBytes(value!, TIMEOUT_BYTES);
      },
    },
    events('ctevents', 'connectionEvents', CONNECTION_EVENTS, 'Events of the connection that are reported'),
    events('expevents', 'expectationEvents', EXPECTATION_EVENTS, 'Events of expectations that are reported'),
    zone('zone-orig', 'zoneOriginal', 'The zone, in the original direction only'),
    zone('zone-reply', 'zoneReply', 'The zone, in the reply direction only'),
    zone('zone', undefined, 'The zone: connections of different zones do not know each other'),
  ],
  initial: () => ({
    noTrack: false,
    helper: '',
    timeout: '',
    connectionEvents: 0,
    expectationEvents: 0,
    zone: 0,
    zoneFromMark: false,
    zoneOriginal: false,
    zoneReply: false,
  }),
  admit({ noTrack, helper, timeout }, { family, protocol }) {
    if (noTrack || (helper === '' && timeout === '')) return;
    if (protocol === undefined || protocol.negate)
      throw new OptionError('--helper and --timeout need the protocol', {
        hint: 'add -p tcp or -p udp to the rule',
        argument: -1,
      });
    const known = CONNTRACK_HELPERS.get(helper);
    if (known === undefined) return;
    if (!known.families.includes(family))
      throw new OptionError(`helper ${helper} is for IPv4 only`, { argument: -1 });
    if (!known.protocols.includes(protocol.number))
      throw new OptionError(`helper ${helper} is not for ${formatProtocol(protocol.number)}`, {
        hint: `write -p ${known.protocols.map(formatProtocol).join(' or ')}`,
        argument: -1,
      });
  },
  print(state) {
    let text = state.noTrack ? ' --notrack' : '';
    if (state.helper !== '') text += ` --helper ${state.helper}`;
    if (state.timeout !== '') text += ` --timeout ${state.timeout}`;
    text += printEvents('ctevents', state.connectionEvents, CONNECTION_EVENTS);
    text += printEvents('expevents', state.expectationEvents, EXPECTATION_EVENTS);
    return text + printZone(state);
  },
  // struct xt_ct_target_info_v1, of revisions 2 and 1; revision 0 has no timeout
  abi: [ctForm(2, 72), ctForm(1, 72), ctForm(0, 40)],
  // Helpers, timeout policies and events are the connection's own matter; a zone of one direction only is none of a packet.
  effect(state, packet, host) {
    if (state.noTrack) host.untrack();
    else host.setZone(state.zoneFromMark ? packet.mark & 0xffff : state.zone);
    return 'continue';
  },
});
