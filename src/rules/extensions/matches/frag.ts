/** `-m frag` (IPv6): net/ipv6/netfilter/ip6t_frag.c. `--fraglen` is kept and printed; the kernel never looks at it. */
import type { Predicate } from '../../../ir/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber, formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';
import { unwritten } from '../../uapi/errno.ts';
import { readFlags } from '../../uapi/payload.ts';
import { fieldIn, fieldIs, hasBytes, inRange, readUint16, readUint32 } from '../header.ts';
import { findExtensionHeader } from '../ipv6-chain.ts';
import { listRange } from '../ports.ts';

interface FragState {
  id: { readonly min: number; readonly max: number };
  idNegated: boolean;
  length: number | undefined;
  lengthNegated: boolean;
  reservedClear: boolean;
  first: boolean;
  more: boolean | undefined;
}

const HEADER_BYTES = 8;
const MORE_FRAGMENTS = 0x1;
const RESERVED_BITS = 0x6;
const OFFSET_BITS = 0xfff8;
/** IP6T_FRAG_*. */
const FragFlag = { IDS: 1, LENGTH: 2, RESERVED: 4, FIRST: 8, MORE: 0x10, LAST: 0x20, ALL: 0x3f } as const;

/** The first condition that fails, in words; `undefined` when the header at `offset` matches. */
function failure(state: FragState, packet: EvaluationPacket, offset: number): string | undefined {
  const id = readUint32(packet, offset + 4);
  const word = readUint16(packet, offset + 2);
  if (!inRange(id, state.id, state.idNegated))
    return `fragment id ${id} is ${state.idNegated ? '' : 'not '}${formatNumberRange(state.id)}`;
  if (state.reservedClear && (packet.bytes[offset + 1] !== 0 || (word & RESERVED_BITS) !== 0))
    return 'the reserved fields of the fragment header are not zero';
  if (state.first && (word & OFFSET_BITS) !== 0) return 'the packet is not a first fragment';
  if (state.more !== undefined && ((word & MORE_FRAGMENTS) !== 0) !== state.more)
    return state.more ? 'no more fragments follow' : 'more fragments follow';
  return undefined;
}

export const frag: MatchExtension = defineMatch<FragState>({
  name: 'frag',
  families: ['ipv6'],
  summary: 'Fields of the fragment header',
  options: [
    {
      name: 'fragid',
      arguments: 1,
      negatable: true,
      syntax: 'id[:id]',
      summary: 'Identification, or a range of them',
      apply(state, [value], negated) {
        state.id = numberRange(value!, UINT32_MAX);
        state.idNegated = negated;
      },
    },
    {
      name: 'fraglen',
      arguments: 1,
      negatable: true,
      syntax: 'bytes',
      summary: 'Length of the header; kept and printed, but without effect in the kernel',
      apply(state, [value], negated) {
        state.length = boundedNumber(value!, 0, UINT32_MAX);
        state.lengthNegated = negated;
      },
    },
    {
      name: 'fragres',
      arguments: 0,
      summary: 'The reserved fields are zero',
      apply(state) {
        state.reservedClear = true;
      },
    },
    {
      name: 'fragfirst',
      arguments: 0,
      summary: 'The first fragment',
      apply(state) {
        state.first = true;
      },
    },
    {
      name: 'fragmore',
      arguments: 0,
      summary: 'More fragments follow',
      apply(state) {
        setMore(state, true);
      },
    },
    {
      name: 'fraglast',
      arguments: 0,
      summary: 'The last fragment',
      apply(state) {
        setMore(state, false);
      },
    },
  ],
  initial: () => ({
    id: { min: 0, max: UINT32_MAX },
    idNegated: false,
    length: undefined,
    lengthNegated: false,
    reservedClear: false,
    first: false,
    more: undefined,
  }),
  list(state) {
    const { id, idNegated, length, lengthNegated } = state;
    let text = ' frag ';
    if (id.min !== 0 || id.max !== UINT32_MAX || idNegated)
      text += listRange('id', id, idNegated).trimStart();
    if (length !== undefined) text += ` length:${lengthNegated ? '!' : ''}${length}`;
    if (state.reservedClear) text += ' reserved';
    if (state.first) text += ' first';
    if (state.more !== undefined) text += state.more ? ' more' : ' last';
    return text;
  },
  print(state) {
    let text = '';
    if (state.id.min !== 0 || state.id.max !== UINT32_MAX)
      text += `${state.idNegated ? ' !' : ''} --fragid ${formatNumberRange(state.id)}`;
    if (state.length !== undefined) text += `${state.lengthNegated ? ' !' : ''} --fraglen ${state.length}`;
    if (state.reservedClear) text += ' --fragres';
    if (state.first) text += ' --fragfirst';
    if (state.more !== undefined) text += state.more ? ' --fragmore' : ' --fraglast';
    return text;
  },
  // struct ip6t_frag
  abi: [
    {
      name: 'frag',
      revision: 0,
      size: 16,
      decode(view) {
        const invert = readFlags(view, 13, FragFlag.IDS | FragFlag.LENGTH, 'frag');
        const flags = view.getUint8(12);
        if ((flags & ~FragFlag.ALL) !== 0) unwritten('frag has unknown flags');
        const more = (flags & FragFlag.MORE) !== 0;
        if (more && (flags & FragFlag.LAST) !== 0) unwritten('frag asks for more fragments and for none');
        return {
          id: { min: view.getUint32(0, true), max: view.getUint32(4, true) },
          idNegated: (invert & FragFlag.IDS) !== 0,
          length: (flags & FragFlag.LENGTH) !== 0 ? view.getUint32(8, true) : undefined,
          lengthNegated: (invert & FragFlag.LENGTH) !== 0,
          reservedClear: (flags & FragFlag.RESERVED) !== 0,
          first: (flags & FragFlag.FIRST) !== 0,
          more: more ? true : (flags & FragFlag.LAST) !== 0 ? false : undefined,
        };
      },
      encode(state, view) {
        view.setUint32(0, state.id.min, true);
        view.setUint32(4, state.id.max, true);
        view.setUint32(8, state.length ?? 0, true);
        const anyId = state.id.min === 0 && state.id.max === UINT32_MAX;
        view.setUint8(
          12,
          (anyId && !state.idNegated ? 0 : FragFlag.IDS) |
            (state.length === undefined ? 0 : FragFlag.LENGTH) |
            (state.reservedClear ? FragFlag.RESERVED : 0) |
            (state.first ? FragFlag.FIRST : 0) |
            (state.more === undefined ? 0 : state.more ? FragFlag.MORE : FragFlag.LAST),
        );
        view.setUint8(13, (state.idNegated ? FragFlag.IDS : 0) | (state.lengthNegated ? FragFlag.LENGTH : 0));
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      const offset = findExtensionHeader(packet, Protocol.FRAGMENT);
      if (offset === 'hotdrop') return offset;
      if (offset < 0) return false;
      if (!hasBytes(packet, offset, HEADER_BYTES)) return 'hotdrop';
      return failure(state, packet, offset) === undefined;
    },
    lower(state) {
      const { id } = state;
      const predicates: Predicate[] = [
        { kind: 'extension-header', protocol: Protocol.FRAGMENT, minimumBytes: HEADER_BYTES },
        fieldIn('frag.id', id.min > id.max ? [] : [[id.min, id.max]], state.idNegated),
      ];
      if (state.reservedClear) predicates.push(fieldIs('frag.reserved', 0));
      if (state.first) predicates.push(fieldIs('ip.fragmentOffset', 0));
      if (state.more !== undefined) predicates.push(fieldIs('frag.more', state.more ? 1 : 0));
      return predicates;
    },
    explain(state, packet) {
      const offset = findExtensionHeader(packet, Protocol.FRAGMENT);
      if (offset === 'hotdrop') return 'the extension headers are cut short';
      if (offset < 0) return 'the packet is not a fragment';
      if (!hasBytes(packet, offset, HEADER_BYTES)) return 'the fragment header is cut short';
      return failure(state, packet, offset) ?? 'matches';
    },
  },
});

function setMore(state: FragState, more: boolean): void {
  if (state.more !== undefined)
    throw new OptionError('--fragmore and --fraglast exclude each other', { argument: -1 });
  state.more = more;
}
