/** `-m ipcomp`: net/netfilter/xt_ipcomp.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';

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
});
