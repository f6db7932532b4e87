/** `-m ah` for IPv6, where AH is an extension header: net/ipv6/netfilter/ip6t_ah.c. */
import type { Predicate } from '../../../ir/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, type MatchOutcome } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { readBoolean, readFlags } from '../../uapi/payload.ts';
import { fieldIs, hasBytes, readUint16, readUint32 } from '../header.ts';
import { findExtensionHeader } from '../ipv6-chain.ts';
import {
  anySpi,
  decodeSpi,
  encodeSpi,
  explainSpi,
  INVERT_SPI,
  listSpi,
  lowerSpi,
  printSpi,
  type SpiState,
  spiMatches,
  spiOption,
} from '../spi.ts';

interface Ah6State {
  readonly spi: SpiState;
  /** In bytes; 0 asks for none. */
  length: number;
  lengthNegated: boolean;
  reservedClear: boolean;
}

const HEADER_BYTES = 12;
/** IP6T_AH_INV_LEN. */
const INVERT_LENGTH = 2;

function headerLength(packet: EvaluationPacket, offset: number): number {
  return (packet.bytes[offset + 1]! + 2) * 4;
}

function evaluate(state: Ah6State, packet: EvaluationPacket): MatchOutcome {
  const offset = findExtensionHeader(packet, Protocol.AH);
  if (offset === 'hotdrop') return offset;
  if (offset < 0) return false;
  if (!hasBytes(packet, offset, HEADER_BYTES)) return 'hotdrop';
  if (!hasBytes(packet, offset, headerLength(packet, offset))) return 'hotdrop';
  return (
    spiMatches(state.spi, readUint32(packet, offset + 4)) &&
    (state.length === 0 || (headerLength(packet, offset) === state.length) !== state.lengthNegated) &&
    !(state.reservedClear && readUint16(packet, offset + 2) !== 0)
  );
}

export const ah6: MatchExtension = defineMatch<Ah6State>({
  name: 'ah',
  families: ['ipv6'],
  summary: 'Fields of the AH extension header',
  options: [
    spiOption('ahspi'),
    {
      name: 'ahlen',
      arguments: 1,
      negatable: true,
      syntax: 'bytes',
      summary: 'Length of the header in bytes; 0 for any',
      apply(state, [value], negated) {
        state.length = boundedNumber(value!, 0, UINT32_MAX);
        state.lengthNegated = negated;
      },
    },
    {
      name: 'ahres',
      arguments: 0,
      summary: 'The reserved field is zero',
      apply(state) {
        state.reservedClear = true;
      },
    },
  ],
  initial: () => ({ spi: anySpi(), length: 0, lengthNegated: false, reservedClear: false }),
  list(state) {
    const length = state.lengthNegated ? `length:!${state.length}` : `length:${state.length}`;
    const asked = state.length !== 0 || state.lengthNegated;
    return ` ah ${listSpi(state.spi).trimStart()}${asked ? length : ''}${state.reservedClear ? ' reserved' : ''}`;
  },
  print(state) {
    let text = printSpi('ahspi', state.spi);
    if (state.length !== 0 || state.lengthNegated)
      text += `${state.lengthNegated ? ' !' : ''} --ahlen ${state.length}`;
    return state.reservedClear ? `${text} --ahres` : text;
  },
  // struct ip6t_ah
  abi: [
    {
      name: 'ah',
      revision: 0,
      size: 16,
      decode(view) {
        const invert = readFlags(view, 13, INVERT_SPI | INVERT_LENGTH, 'ah');
        return {
          spi: decodeSpi(view, invert),
          length: view.getUint32(8, true),
          lengthNegated: (invert & INVERT_LENGTH) !== 0,
          reservedClear: readBoolean(view, 12),
        };
      },
      encode(state, view) {
        view.setUint32(8, state.length, true);
        view.setUint8(12, state.reservedClear ? 1 : 0);
        view.setUint8(13, encodeSpi(state.spi, view) | (state.lengthNegated ? INVERT_LENGTH : 0));
      },
    },
  ],
  semantics: {
    evaluate,
    lower(state) {
      const predicates: Predicate[] = [
        { kind: 'extension-header', protocol: Protocol.AH, minimumBytes: HEADER_BYTES, whole: true },
        lowerSpi('ah.spi', state.spi),
      ];
      if (state.length !== 0) predicates.push(fieldIs('ah.length', state.length, state.lengthNegated));
      if (state.reservedClear) predicates.push(fieldIs('ah.reserved', 0));
      return predicates;
    },
    explain(state, packet) {
      const offset = findExtensionHeader(packet, Protocol.AH);
      if (offset === 'hotdrop') return 'the extension headers are cut short';
      if (offset < 0) return 'the packet has no AH header';
      if (!hasBytes(packet, offset, HEADER_BYTES)) return 'the AH header is cut short';
      const spi = readUint32(packet, offset + 4);
      if (!spiMatches(state.spi, spi)) return explainSpi(state.spi, spi);
      const length = headerLength(packet, offset);
      if (state.length !== 0 && (length === state.length) === state.lengthNegated)
        return `AH length ${length} is ${state.lengthNegated ? '' : 'not '}${state.length}`;
      return 'the reserved field of AH is not zero';
    },
  },
});
