/** `-m recent`: net/netfilter/xt_recent.c recent_mt, revision 1. */
import { addressLength, formatAddressBytes, maskOfLength } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import {
  defineMatch,
  type MatchExtension,
  OptionError,
  type OptionSpec,
  shareMemory,
} from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parseHostAddress } from '../../text/host.ts';
import { checkProcName } from '../../text/proc-name.ts';
import { allowOne, requireOne, requireWith } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { type AbiForm, readAddress, readBytes, readText, writeBytes, writeText } from '../../uapi/payload.ts';
import { addressOf, ttlOf } from '../header.ts';
import { HZ, jiffies } from '../jiffies.ts';
import { RecentList } from '../recent-list.ts';

/** In the order of XT_RECENT_*, which is the order of printing. */
const ACTIONS = ['set', 'rcheck', 'update', 'remove'] as const;

/** XT_RECENT_NAME_LEN, its final zero byte taken off. */
const NAME_BYTES = 199;
/** XT_RECENT_MAX_NSTAMPS - 1: from here on the kernel refuses a hit count. */
const HIT_COUNT_END = 65_535;

interface RecentState {
  readonly actions: Set<(typeof ACTIONS)[number]>;
  negate: boolean;
  /** 0: no time limit. */
  seconds: number;
  reap: boolean;
  /** 0: no minimum. */
  hitCount: number;
  rttl: boolean;
  name: string;
  mask: Uint8Array;
  /** Else all bytes of its place are set, also those that IPv4 has no use for. */
  maskGiven: boolean;
  side: 'source' | 'destination';
}

function action(name: (typeof ACTIONS)[number], summary: string): OptionSpec<RecentState> {
  return {
    name,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negated) {
      state.actions.add(name);
      state.negate ||= negated;
    },
  };
}

/** The TTL before this host took one off. */
function ttlAsReceived(packet: EvaluationPacket): number {
  const forwarded = packet.outDevice !== '' && packet.inDevice !== '';
  return (ttlOf(packet) + (forwarded ? 1 : 0)) & 0xff;
}

function seenEnough({ seconds, hitCount }: RecentState, stamps: readonly number[], since: number): boolean {
  const hits = stamps.filter((stamp) => seconds === 0 || stamp >= since).length;
  return hits >= Math.max(1, hitCount);
}

/** XT_RECENT_*: bit n for action n of {@link ACTION_BITS}. */
const ACTION_BITS = { rcheck: 0x1, set: 0x2, update: 0x4, remove: 0x8 } as const;
const RTTL = 0x10;
const REAP = 0x20;
const MASK_AT = 212;
const MASK_BYTES = 16;

function recentForm(revision: 0 | 1, size: number): AbiForm<RecentState> {
  return {
    name: 'recent',
    revision,
    size,
    decode(view, { family }) {
      const flags = view.getUint8(8);
      if ((flags & ~0x3f) !== 0) refuse(`recent has unknown flags 0x${flags.toString(16)}`);
      const actions = ACTIONS.filter((name) => (flags & ACTION_BITS[name]) !== 0);
      if (actions.length !== 1) refuse('recent does one thing');
      return {
        actions: new Set(actions),
        negate: view.getUint8(9) !== 0,
        seconds: view.getUint32(0, true),
        reap: (flags & REAP) !== 0,
        hitCount: view.getUint32(4, true),
        rttl: (flags & RTTL) !== 0,
        name: readText(view, 10, NAME_BYTES + 1),
        mask:
          revision === 1
            ? readAddress(view, MASK_AT, family)
            : maskOfLength(family, addressLength(family) * 8),
        maskGiven: revision === 1 && readBytes(view, MASK_AT, MASK_BYTES).some((byte) => byte !== 0xff),
        side: view.getUint8(210) === 0 ? 'source' : 'destination',
      };
    },
    encode(state, view) {
      let flags = (state.rttl ? RTTL : 0) | (state.reap ? REAP : 0);
      for (const name of state.actions) flags |= ACTION_BITS[name];
      view.setUint32(0, state.seconds, true);
      view.setUint32(4, state.hitCount, true);
      view.setUint8(8, flags);
      view.setUint8(9, state.negate ? 1 : 0);
      // iptables writes a given name over the usual one, of which the end remains.
      writeText(view, 10, NAME_BYTES + 1, 'DEFAULT');
      writeText(view, 10, NAME_BYTES + 1, `${state.name}\0`);
      view.setUint8(210, state.side === 'source' ? 0 : 1);
      if (revision === 0) return;
      if (state.maskGiven) writeBytes(view, MASK_AT, state.mask);
      else writeBytes(view, MASK_AT, new Uint8Array(MASK_BYTES).fill(0xff));
    },
  };
}

export const recent: MatchExtension = defineMatch<RecentState>({
  name: 'recent',
  families: ['ipv4', 'ipv6'],
  summary: 'Addresses seen before, in named lists',
  options: [
    action('set', 'Adds the address to the list, or refreshes it; matches always'),
    action('rcheck', 'Matches an address of the list'),
    action('update', 'As --rcheck, and refreshes the time it was last seen'),
    action('remove', 'Matches an address of the list and takes it off'),
    {
      name: 'seconds',
      arguments: 1,
      syntax: 'seconds',
      summary: 'Only addresses seen within so many seconds',
      apply(state, [value]) {
        state.seconds = boundedNumber(value!, 1, UINT32_MAX);
      },
    },
    {
      name: 'reap',
      arguments: 0,
      summary: 'Forgets older entries (with --seconds)',
      apply(state) {
        state.reap = true;
      },
    },
    {
      name: 'hitcount',
      arguments: 1,
      syntax: 'hits',
      summary: 'Only addresses seen at least so often',
      apply(state, [value]) {
        state.hitCount = boundedNumber(value!, 0, UINT32_MAX);
      },
    },
    {
      name: 'rttl',
      arguments: 0,
      summary: 'Only when the TTL is that of the packet that set the entry',
      apply(state) {
        state.rttl = true;
      },
    },
    {
      name: 'name',
      arguments: 1,
      syntax: 'name',
      summary: 'The list, DEFAULT when not given',
      apply(state, [value]) {
        state.name = cutToBytes(value!, NAME_BYTES);
      },
    },
    {
      name: 'rsource',
      arguments: 0,
      summary: 'Keeps source addresses (default)',
      apply(state) {
        state.side = 'source';
      },
    },
    {
      name: 'rdest',
      arguments: 0,
      summary: 'Keeps destination addresses',
      apply(state) {
        state.side = 'destination';
      },
    },
    {
      name: 'mask',
      arguments: 1,
      syntax: 'netmask',
      summary: 'The part of the address that counts',
      apply(state, [value], _negated, { family }) {
        state.mask = parseHostAddress(value!, family);
        state.maskGiven = true;
      },
    },
  ],
  initial: ({ family }) => ({
    actions: new Set(),
    negate: false,
    seconds: 0,
    reap: false,
    hitCount: 0,
    rttl: false,
    name: 'DEFAULT',
    mask: maskOfLength(family, addressLength(family) * 8),
    maskGiven: false,
    side: 'source',
  }),
  finish(state) {
    const given = Object.fromEntries(ACTIONS.map((name) => [name, state.actions.has(name)]));
    requireOne('recent', given);
    requireWith('reap', state.reap, 'seconds', state.seconds > 0);
    allowOne({ rttl: state.rttl, set: state.actions.has('set') });
    allowOne({ rttl: state.rttl, remove: state.actions.has('remove') });
  },
  admit(state) {
    if (state.actions.has('set') && (state.seconds > 0 || state.hitCount > 0))
      throw new OptionError('--set takes neither --seconds nor --hitcount', { argument: -1 });
    if (state.hitCount >= HIT_COUNT_END)
      throw new OptionError(`a hit count is less than ${HIT_COUNT_END}`, { argument: -1 });
    checkProcName(state.name);
  },
  print(state) {
    let text = state.negate ? ' !' : '';
    for (const name of ACTIONS) if (state.actions.has(name)) text += ` --${name}`;
    if (state.seconds > 0) text += ` --seconds ${state.seconds}`;
    if (state.reap) text += ' --reap';
    if (state.hitCount > 0) text += ` --hitcount ${state.hitCount}`;
    if (state.rttl) text += ' --rttl';
    text += ` --name ${state.name} --mask ${formatAddressBytes(state.mask)}`;
    return `${text} ${state.side === 'source' ? '--rsource' : '--rdest'}`;
  },
  // struct xt_recent_mtinfo_v1; revision 0 has no mask
  abi: [recentForm(1, 228), recentForm(0, 212)],
  // No map of a program keeps times by address as this list does.
  semantics: {
    memory(state, _nowMs, shared) {
      const list = shareMemory(
        shared,
        `recent ${state.name}`,
        () => new RecentList(state.mask, state.hitCount),
      );
      list.join(state.hitCount);
      return list;
    },
    evaluate(state, packet, memory) {
      const list = memory as RecentList;
      const now = jiffies(packet.world.nowMs());
      const key = list.keyOf(packet.family, addressOf(packet, state.side));
      const ttl = ttlAsReceived(packet);
      const entry = list.find(key, state.rttl ? ttl : 0);
      if (entry === undefined) {
        if (!state.actions.has('set')) return state.negate;
        list.add(key, packet.family, ttl, now);
        return !state.negate;
      }
      const since = now - state.seconds * HZ;
      const holds =
        state.actions.has('set') || state.actions.has('remove') || seenEnough(state, entry.stamps, since);
      const result = holds !== state.negate;
      const refreshes = state.actions.has('set') || (state.actions.has('update') && result);
      if (state.actions.has('remove')) list.remove(key);
      else if (state.reap) list.reap(since, refreshes ? key : undefined);
      if (refreshes) {
        list.refresh(key, entry, now);
        entry.ttl = ttl;
      }
      return result;
    },
    explain(state, packet) {
      const address = formatAddressBytes(addressOf(packet, state.side));
      const within = state.seconds === 0 ? '' : ` within ${state.seconds} s`;
      const often = state.hitCount === 0 ? '' : ` ${state.hitCount} times`;
      return `${address} ${state.negate ? 'was' : 'was not'} seen${often}${within} in the list ${state.name}`;
    },
  },
});
