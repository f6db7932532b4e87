/** `-m ipcomp`: net/netfilter/xt_ipcomp.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';
import { readBoolean, readFlags } from '../../uapi/payload.ts';

/** XT_IPCOMP_INV_SPI */
const INVERT_SPI = 0x1;

interface IpcompState {
  spi: { readonly min: number; readonly max: number };
  negate: boolean;
  reserved: boolean;
}

export const ipcomp: MatchExtension = defineMatch<IpcompState>({
  name: 'ipcomp',
  families: ['ipv4', 'ipv6'],
  summary: 'Compression parameter index of IPComp',
  where: { protocols: [Protocol.IPCOMP] },
  options: [
    {
      name: 'ipcompspi',
      arguments: 1,
      negatable: true,
      syntax: 'spi[:spi]',
      summary: 'The index, or a range of them; 0 when not given',
      apply(state, [value], negated) {
        state.spi = numberRange(value!, UINT32_MAX);
        state.negate = negated;
      },
    },
    {
      name: 'compres',
      arguments: 0,
      summary: 'The reserved field is 0',
      apply(state) {
        state.reserved = true;
      },
    },
  ],
  initial: () => ({ spi: { min: 0, max: 0 }, negate: false, reserved: false }),
  print({ spi, negate, reserved }) {
    const all = spi.min === 0 && spi.max === UINT32_MAX;
    const text = all ? '' : `${negate ? ' !' : ''} --ipcompspi ${formatNumberRange(spi)}`;
    return reserved ? `${text} --compres` : text;
  },
  // struct xt_ipcomp
  abi: [
    {
      name: 'ipcomp',
      revision: 0,
      size: 12,
      decode: (view) => ({
        spi: { min: view.getUint32(0, true), max: view.getUint32(4, true) },
        negate: readFlags(view, 8, INVERT_SPI, 'ipcomp') !== 0,
        reserved: readBoolean(view, 9),
      }),
      encode({ spi, negate, reserved }, view) {
        view.setUint32(0, spi.min, true);
        view.setUint32(4, spi.max, true);
        view.setUint8(8, negate ? INVERT_SPI : 0);
        view.setUint8(9, reserved ? 1 : 0);
      },
    },
  ],
});
