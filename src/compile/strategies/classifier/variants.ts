/** Conditions whose code is chosen by number: each has its own way to the packet. */
import type { AddressTypePredicate, ExtensionHeaderPredicate, ScalarField } from '../../../ir/index.ts';

/** Fields read from headers at the rule. */
export const HEADER_FIELDS: readonly ScalarField[] = [
  'esp.spi',
  'ah.spi',
  'ah.length',
  'ah.reserved',
  'frag.id',
  'frag.more',
  'frag.reserved',
];

/** Extension headers, with what each match wants of them. */
export const EXTENSION_HEADERS: readonly ExtensionHeaderPredicate[] = [
  { kind: 'extension-header', protocol: 44, minimumBytes: 8 },
  { kind: 'extension-header', protocol: 51, minimumBytes: 12, whole: true },
];

type AddressTypeVariant = Pick<AddressTypePredicate, 'field' | 'limitTo'>;

export const ADDRESS_TYPES: readonly AddressTypeVariant[] = (
  ['ip.source', 'ip.destination'] as const
).flatMap((field) => (['none', 'in', 'out'] as const).map((limitTo) => ({ field, limitTo })));

export function addressTypeVariant({ field, limitTo }: AddressTypeVariant): number {
  return ADDRESS_TYPES.findIndex((variant) => variant.field === field && variant.limitTo === limitTo);
}
