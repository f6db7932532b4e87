/** `--espspi` and `--ahspi`: a range of security parameter indices. */
import type { ScalarField, ScalarPredicate } from '../../ir/index.ts';
import type { OptionSpec } from '../extension.ts';
import { formatNumberRange, numberRange, UINT32_MAX } from '../text/bounded.ts';
import { type AbiForm, readFlags } from '../uapi/payload.ts';
import { fieldIn, inRange } from './header.ts';
import { listRange } from './ports.ts';

export interface SpiState {
  range: { readonly min: number; readonly max: number };
  negate: boolean;
}

export function anySpi(): SpiState {
  return { range: { min: 0, max: UINT32_MAX }, negate: false };
}

export function spiOption<S extends { readonly spi: SpiState }>(name: string): OptionSpec<S> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'spi[:spi]',
    summary: 'Security parameter index, or a range of them',
    apply(state, [value], negated) {
      state.spi.range = numberRange(value!, UINT32_MAX);
      state.spi.negate = negated;
    },
  };
}

/** Nothing when the range holds everything, negated or not: iptables forgets it then. */
export function printSpi(option: string, { range, negate }: SpiState): string {
  if (range.min === 0 && range.max === UINT32_MAX) return '';
  return `${negate ? ' !' : ''} --${option} ${formatNumberRange(range)}`;
}

/** As `iptables -L` shows it. */
export function listSpi({ range, negate }: SpiState): string {
  return range.min === 0 && range.max === UINT32_MAX && !negate ? '' : listRange('spi', range, negate);
}

export function spiMatches({ range, negate }: SpiState, spi: number): boolean {
  return inRange(spi, range, negate);
}

export function lowerSpi(field: ScalarField, { range, negate }: SpiState): ScalarPredicate {
  return fieldIn(field, range.min > range.max ? [] : [[range.min, range.max]], negate);
}

export function explainSpi({ range, negate }: SpiState, spi: number): string {
  return `SPI ${spi} is ${negate ? '' : 'not '}${formatNumberRange(range)}`;
}

/** XT_ESP_INV_SPI, IPT_AH_INV_SPI, IP6T_AH_INV_SPI. */
export const INVERT_SPI = 1;

/** `spis[2]` at the beginning of struct xt_esp, ipt_ah, ip6t_ah. */
export function decodeSpi(view: DataView, invertFlags: number): SpiState {
  return {
    range: { min: view.getUint32(0, true), max: view.getUint32(4, true) },
    negate: (invertFlags & INVERT_SPI) !== 0,
  };
}

/** Writes what {@link decodeSpi} reads and gives the flag. */
export function encodeSpi({ range, negate }: SpiState, view: DataView): number {
  view.setUint32(0, range.min, true);
  view.setUint32(4, range.max, true);
  return negate ? INVERT_SPI : 0;
}

/** struct xt_esp, struct ipt_ah. */
export function spiForm(name: 'esp' | 'ah'): AbiForm<{ spi: SpiState }> {
  return {
    name,
    revision: 0,
    size: 12,
    decode: (view) => ({ spi: decodeSpi(view, readFlags(view, 8, INVERT_SPI, name)) }),
    encode: (state, view) => view.setUint8(8, encodeSpi(state.spi, view)),
  };
}
