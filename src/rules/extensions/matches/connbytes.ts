/** `-m connbytes`: net/netfilter/xt_connbytes.c. */
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { numberRange64, UINT64_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import { connectionOf } from '../ct-state.ts';

const MODES = ['packets', 'bytes', 'avgpkt'] as const;
const DIRECTIONS = ['original', 'reply', 'both'] as const;

interface ConnbytesState {
  /** Inclusive. */
  range: { readonly from: bigint; readonly to: bigint } | undefined;
  negate: boolean;
  mode: (typeof MODES)[number] | undefined;
  direction: (typeof DIRECTIONS)[number] | undefined;
}

function choice<K extends 'mode' | 'direction'>(
  name: string,
  key: K,
  words: readonly NonNullable<ConnbytesState[K]>[],
  summary: string,
): OptionSpec<ConnbytesState> {
  return {
    name,
    arguments: 1,
    syntax: words.join('|'),
    summary,
    apply(state, [value]) {
      const word = words.find((known) => known === value);
      if (word === undefined)
        throw new OptionError(`unknown word "${value}"`, { hint: `write ${words.join(', ')}` });
      state[key] = word;
    },
  };
}

/** What the connection has transferred so far; `undefined` where there is none. */
function transferred({ mode, direction }: ConnbytesState, packet: EvaluationPacket): bigint | undefined {
  const connection = connectionOf(packet);
  if (connection === undefined) return undefined;
  const { original, reply } = connection.accounting;
  const ways = { original: [original], reply: [reply], both: [original, reply] }[direction!];
  const packets = BigInt(ways.reduce((sum, way) => sum + way.packets, 0));
  const bytes = BigInt(ways.reduce((sum, way) => sum + way.bytes, 0));
  if (mode === 'packets') return packets;
  if (mode === 'bytes') return bytes;
  return packets === 0n ? 0n : bytes / packets;
}

export const connbytes: MatchExtension = defineMatch<ConnbytesState>({
  name: 'connbytes',
  families: ['ipv4', 'ipv6'],
  summary: 'How much a connection has transferred',
  options: [
    {
      name: 'connbytes',
      arguments: 1,
      negatable: true,
      syntax: 'from[:to]',
      summary: 'How much, from and to',
      apply(state, [value], negated) {
        const [from, to = UINT64_MAX] = numberRange64(value!, UINT64_MAX);
        if (to < from!) throw new OptionError(`the range ${value} is backwards`);
        state.range = { from: from!, to };
        // A negated range is written backwards, which a single number cannot be.
        state.negate = negated && from !== to;
      },
    },
    choice('connbytes-mode', 'mode', MODES, 'What is counted: packets, bytes, or bytes a packet on average'),
    choice('connbytes-dir', 'direction', DIRECTIONS, 'Which direction is counted'),
  ],
  initial: () => ({ range: undefined, negate: false, mode: undefined, direction: undefined }),
  finish(state) {
    requireAll('connbytes', {
      connbytes: state.range !== undefined,
      'connbytes-mode': state.mode !== undefined,
      'connbytes-dir': state.direction !== undefined,
    });
  },
  list({ range, negate, mode, direction }) {
    const to = range!.to === UINT64_MAX ? '' : `:${range!.to}`;
    return `${negate ? ' !' : ''} connbytes ${range!.from}${to} connbytes mode ${mode} connbytes direction ${direction}`;
  },
  print({ range, negate, mode, direction }) {
    const to = range!.to === UINT64_MAX ? '' : `:${range!.to}`;
    return `${negate ? ' !' : ''} --connbytes ${range!.from}${to} --connbytes-mode ${mode} --connbytes-dir ${direction}`;
  },
  // struct xt_connbytes_info: a negated range has its ends the other way round
  abi: [
    {
      name: 'connbytes',
      revision: 0,
      everyFamily: true,
      size: 24,
      decode(view) {
        const [mode, direction] = [MODES[view.getUint8(16)], DIRECTIONS[view.getUint8(17)]];
        if (mode === undefined || direction === undefined) refuse('connbytes counts something unknown');
        const [from, to] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
        const negate = from > to;
        return { range: negate ? { from: to, to: from } : { from, to }, negate, mode, direction };
      },
      encode({ range, negate, mode, direction }, view) {
        const { from, to } = range!;
        view.setBigUint64(negate ? 8 : 0, from, true);
        view.setBigUint64(negate ? 0 : 8, to, true);
        view.setUint8(16, MODES.indexOf(mode!));
        view.setUint8(17, DIRECTIONS.indexOf(direction!));
      },
    },
  ],
  // Of the connection a program sees its state; its counters lie too deep.
  semantics: {
    evaluate(state, packet) {
      const { from, to } = state.range!;
      const amount = transferred(state, packet);
      if (amount === undefined) return false;
      return (amount >= from && amount <= to) !== state.negate;
    },
    explain(state, packet) {
      const amount = transferred(state, packet);
      if (amount === undefined) return 'the packet belongs to no connection';
      const { from, to } = state.range!;
      return `${amount} ${state.mode === 'packets' ? 'packets' : 'bytes'} are ${state.negate ? '' : 'not '}${from} to ${to}`;
    },
  },
});
