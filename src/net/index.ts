/** Addresses, prefixes, ranges, five-tuples: the values that packets, rules and bindings are made of. */
export * from './address.ts';
export * from './jhash.ts';
export * from './mask.ts';
export * from './port.ts';
export * from './prefix.ts';
export * from './range.ts';
export * from './tuple.ts';
