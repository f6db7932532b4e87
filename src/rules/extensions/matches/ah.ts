/** `-m ah` for IPv4, where AH is the transport protocol: net/ipv4/netfilter/ipt_ah.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { hasBytes, readUint32 } from '../header.ts';
import {
  anySpi,
  explainSpi,
  listSpi,
  lowerSpi,
  printSpi,
  type SpiState,
  spiForm,
  spiMatches,
  spiOption,
} from '../spi.ts';

/** struct ip_auth_hdr without its data. */
const HEADER_BYTES = 12;
const SPI_OFFSET = 4;

export const ah: MatchExtension = defineMatch<{ spi: SpiState }>({
  name: 'ah',
  families: ['ipv4'],
  summary: 'Security parameter index of AH; never matches later fragments',
  where: { protocols: [Protocol.AH] },
  options: [spiOption('ahspi')],
  initial: () => ({ spi: anySpi() }),
  list: (state) => ` ah${listSpi(state.spi)}`,
  print: (state) => printSpi('ahspi', state.spi),
  abi: [spiForm('ah')],
  semantics: {
    evaluate(state, packet) {
      if (packet.fragmentOffset !== 0) return false;
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'hotdrop';
      return spiMatches(state.spi, readUint32(packet, packet.transportOffset + SPI_OFFSET));
    },
    lower: (state) => [
      { kind: 'transport', minimumBytes: HEADER_BYTES, dropOffsetOne: false, onShort: 'hotdrop' },
      lowerSpi('ah.spi', state.spi),
    ],
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no AH header';
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'the AH header is cut short';
      return explainSpi(state.spi, readUint32(packet, packet.transportOffset + SPI_OFFSET));
    },
  },
});
