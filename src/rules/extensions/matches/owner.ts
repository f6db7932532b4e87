/** `-m owner`: net/netfilter/xt_owner.c, revision 1. */
import { Hook } from '../../../ir/index.ts';
import type { SendingSocket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { splitNumber } from '../../text/number.ts';
import { requireAny } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';

/** Inclusive; (uid_t)-1 and (gid_t)-1 name nobody. */
interface IdRange {
  readonly from: number;
  readonly to: number;
  readonly negate: boolean;
}

const LAST_ID = 0xffff_fffe;

/** XT_OWNER_* */
const Flag = { UID: 0x1, GID: 0x2, SOCKET: 0x4, SUPPLEMENTARY: 0x8, ALL: 0xf } as const;

interface OwnerState {
  uid?: IdRange;
  gid?: IdRange;
  socketExists?: { readonly negate: boolean };
  supplementaryGroups: boolean;
}

/** @throws {OptionError} */
function parseIds(text: string, what: 'user' | 'group'): { from: number; to: number } {
  // The one name that is the same number everywhere.
  if (text === 'root') return { from: 0, to: 0 };
  const from = splitNumber(text);
  const to = from?.rest.startsWith('-') ? splitNumber(from.rest.slice(1)) : from;
  const rest = from?.rest.startsWith('-') ? to?.rest : from?.rest;
  if (from === undefined || to === undefined || rest !== '' || from.value > LAST_ID || to.value > LAST_ID)
    throw new OptionError(`"${text}" is not a ${what} number or range`, {
      hint: `write the number: names are known only to the host (id ${what === 'user' ? '-u' : '-g'} NAME)`,
    });
  return { from: Number(from.value), to: Number(to.value) };
}

function idOption(name: string, what: 'user' | 'group', key: 'uid' | 'gid'): OptionSpec<OwnerState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'id[-id]',
    summary: `The ${what} of the process that made the socket, or a range`,
    apply(state, [value], negate) {
      state[key] = { ...parseIds(value!, what), negate };
    },
  };
}

function formatIds(words: string, range: IdRange | undefined): string {
  if (range === undefined) return '';
  const ids = range.from === range.to ? `${range.from}` : `${range.from}-${range.to}`;
  return `${range.negate ? ' !' : ''} ${words} ${ids}`;
}

function holds({ from, to, negate }: IdRange, ids: readonly number[]): boolean {
  return ids.some((id) => id >= from && id <= to) !== negate;
}

/** owner_mt() for a packet without a socket: every condition has to be negated, and groups cannot be asked for more closely. */
function holdsWithoutSocket({ uid, gid, socketExists, supplementaryGroups }: OwnerState): boolean {
  const given = [uid, gid, socketExists].filter((condition) => condition !== undefined);
  return !supplementaryGroups && given.every(({ negate }) => negate);
}

function holdsFor(state: OwnerState, { uid, gid, groups }: SendingSocket): boolean {
  if (state.socketExists?.negate === true) return false;
  if (state.uid !== undefined && !holds(state.uid, [uid])) return false;
  const own = state.supplementaryGroups ? [gid, ...(groups ?? [])] : [gid];
  return state.gid === undefined || holds(state.gid, own);
}

export const owner: MatchExtension = defineMatch<OwnerState>({
  name: 'owner',
  families: ['ipv4', 'ipv6'],
  summary: 'User and group of the socket that a packet of this host comes from',
  where: { hooks: [Hook.LOCAL_OUT, Hook.POST_ROUTING] },
  options: [
    idOption('uid-owner', 'user', 'uid'),
    idOption('gid-owner', 'group', 'gid'),
    {
      name: 'socket-exists',
      arguments: 0,
      negatable: true,
      summary: 'The packet comes from a socket',
      apply(state, _values, negate) {
        state.socketExists = { negate };
      },
    },
    {
      name: 'suppl-groups',
      arguments: 0,
      summary: 'Supplementary groups count too (after --gid-owner)',
      apply(state) {
        if (state.gid === undefined)
          throw new OptionError('--suppl-groups stands after --gid-owner', { argument: -1 });
        state.supplementaryGroups = true;
      },
    },
  ],
  initial: () => ({ supplementaryGroups: false }),
  finish(state) {
    requireAny('owner', {
      'uid-owner': state.uid !== undefined,
      'gid-owner': state.gid !== undefined,
      'socket-exists': state.socketExists !== undefined,
    });
  },
  admit({ uid, gid }) {
    if ((uid && uid.from > uid.to) || (gid && gid.from > gid.to))
      throw new OptionError('the range of ids is backwards', { argument: -1 });
  },
  list(state) {
    let text = '';
    if (state.socketExists) text += `${state.socketExists.negate ? ' !' : ''} owner socket exists`;
    text += formatIds('owner UID match', state.uid) + formatIds('owner GID match', state.gid);
    return state.supplementaryGroups ? `${text} incl. suppl. groups` : text;
  },
  print(state) {
    let text = '';
    if (state.socketExists) text += `${state.socketExists.negate ? ' !' : ''} --socket-exists`;
    text += formatIds('--uid-owner', state.uid) + formatIds('--gid-owner', state.gid);
    return state.supplementaryGroups ? `${text} --suppl-groups` : text;
  },
  // struct xt_owner_match_info
  abi: [
    {
      name: 'owner',
      revision: 1,
      size: 20,
      decode(view) {
        const [match, invert] = [view.getUint8(16), view.getUint8(17)];
        if ((match & ~Flag.ALL) !== 0) refuse('owner looks at something unknown');
        const ids = (flag: number, at: number): IdRange | undefined =>
          (match & flag) === 0
            ? undefined
            : {
                from: view.getUint32(at, true),
                to: view.getUint32(at + 4, true),
                negate: (invert & flag) !== 0,
              };
        const [uid, gid] = [ids(Flag.UID, 0), ids(Flag.GID, 8)];
        const socketExists = (match & Flag.SOCKET) !== 0;
        return {
          ...(uid && { uid }),
          ...(gid && { gid }),
          ...(socketExists && { socketExists: { negate: (invert & Flag.SOCKET) !== 0 } }),
          supplementaryGroups: (match & Flag.SUPPLEMENTARY) !== 0,
        };
      },
      encode({ uid, gid, socketExists, supplementaryGroups }, view) {
        let match = supplementaryGroups ? Flag.SUPPLEMENTARY : 0;
        let invert = 0;
        const set = (flag: number, { negate }: { readonly negate: boolean }): void => {
          match |= flag;
          if (negate) invert |= flag;
        };
        const ids = (flag: number, at: number, range: IdRange | undefined): void => {
          if (range === undefined) return;
          set(flag, range);
          view.setUint32(at, range.from, true);
          view.setUint32(at + 4, range.to, true);
        };
        ids(Flag.UID, 0, uid);
        ids(Flag.GID, 8, gid);
        if (socketExists !== undefined) set(Flag.SOCKET, socketExists);
        view.setUint8(16, match);
        view.setUint8(17, invert);
      },
    },
  ],
  // A program that may read credentials runs where the packet has left its process behind.
  semantics: {
    evaluate: (state, { sender }) =>
      sender === undefined ? holdsWithoutSocket(state) : holdsFor(state, sender),
    explain: (_state, { sender }) =>
      sender === undefined
        ? 'the packet comes from no socket'
        : `it comes from user ${sender.uid}, group ${sender.gid}`,
  },
});
