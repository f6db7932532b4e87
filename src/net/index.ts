/** Addresses, prefixes, ranges, five-tuples: the values that packets, rules and bindings are made of. */
export * from './address.ts';
