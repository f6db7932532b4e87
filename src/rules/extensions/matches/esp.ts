/** `-m esp`: net/netfilter/xt_esp.c. */
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

const HEADER_BYTES = 8;

export const esp: MatchExtension = defineMatch<{ spi: SpiState }>({
  name: 'esp',
  families: ['ipv4', 'ipv6'],
  summary: 'Security parameter index of ESP; never matches later fragments',
  where: { protocols: [Protocol.ESP] },
  options: [spiOption('espspi')],
  initial: () => ({ spi: anySpi() }),
  list: (state) => ` esp${listSpi(state.spi)}`,
  print: (state) => printSpi('espspi', state.spi),
  abi: [spiForm('esp')],
  semantics: {
    evaluate(state, packet) {
      if (packet.fragmentOffset !== 0) return false;
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'hotdrop';
      return spiMatches(state.spi, readUint32(packet, packet.transportOffset));
    },
    lower: (state) => [
      { kind: 'transport', minimumBytes: HEADER_BYTES, dropOffsetOne: false, onShort: 'hotdrop' },
      lowerSpi('esp.spi', state.spi),
    ],
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no ESP header';
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'the ESP header is cut short';
      return explainSpi(state.spi, readUint32(packet, packet.transportOffset));
    },
  },
});
