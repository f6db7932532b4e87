/** `-m tcpmss`: net/netfilter/xt_tcpmss.c. */
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatNumberRange, numberRange } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { hasBytes, inRange, readUint16 } from '../header.ts';

interface TcpmssState {
  mss?: { readonly min: number; readonly max: number };
  negate: boolean;
}

const HEADER_BYTES = 20;
const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const MSS_BYTES = 4;

/** The size that the header offers, if it does. An end of options ends nothing (tcpmss_mt). */
function segmentSize(packet: EvaluationPacket): number | undefined | 'cut short' {
  const { bytes, transportOffset } = packet;
  if (!hasBytes(packet, transportOffset, HEADER_BYTES)) return 'cut short';
  const length = (bytes[transportOffset + 12]! >> 4) * 4;
  if (length < HEADER_BYTES || !hasBytes(packet, transportOffset, length)) return 'cut short';
  const end = transportOffset + length;
  for (let at = transportOffset + HEADER_BYTES; at < end; ) {
    const kind = bytes[at]!;
    if (kind === OPTION_MSS && end - at >= MSS_BYTES && bytes[at + 1] === MSS_BYTES)
      return readUint16(packet, at + 2);
    const single = kind === OPTION_END || kind === OPTION_NOP || at + 1 === end;
    at += single ? 1 : Math.max(1, bytes[at + 1]!);
  }
  return undefined;
}

export const tcpmss: MatchExtension = defineMatch<TcpmssState>({
  name: 'tcpmss',
  families: ['ipv4', 'ipv6'],
  summary: 'The TCP maximum segment size option',
  where: { protocols: [Protocol.TCP] },
  options: [
    {
      name: 'mss',
      arguments: 1,
      negatable: true,
      syntax: 'value[:value]',
      summary: 'The size, or a range of sizes',
      apply(state, [value], negated) {
        state.mss = numberRange(value!, 0xffff);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('tcpmss', { mss: state.mss !== undefined });
  },
  admit({ mss }) {
    if (mss!.min > mss!.max)
      throw new OptionError(`the range ${mss!.min}:${mss!.max} is backwards`, { argument: -1 });
  },
  list: (state) => ` tcpmss match ${state.negate ? '!' : ''}${formatNumberRange(state.mss!)}`,
  print: (state) => `${state.negate ? ' !' : ''} --mss ${formatNumberRange(state.mss!)}`,
  // struct xt_tcpmss_match_info
  abi: [
    {
      name: 'tcpmss',
      revision: 0,
      size: 6,
      decode: (view) => ({
        mss: { min: view.getUint16(0, true), max: view.getUint16(2, true) },
        negate: readBoolean(view, 4),
      }),
      encode({ mss, negate }, view) {
        view.setUint16(0, mss!.min, true);
        view.setUint16(2, mss!.max, true);
        view.setUint8(4, negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      const size = segmentSize(packet);
      if (size === 'cut short') return 'hotdrop';
      return size === undefined ? state.negate : inRange(size, state.mss!, state.negate);
    },
    explain(state, packet) {
      const size = segmentSize(packet);
      if (size === 'cut short') return 'the TCP header is cut short';
      if (size === undefined) return 'the segment offers no maximum size';
      return `maximum size ${size} is ${state.negate ? '' : 'not '}${formatNumberRange(state.mss!)}`;
    },
  },
});
