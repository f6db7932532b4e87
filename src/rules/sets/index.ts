/** IP sets: types, text, and the reference semantics of `-m set` and `-j SET`. */
export * from './create.ts';
export { formatEntry, parseEntry } from './entry.ts';
export * from './error.ts';
export * from './extras.ts';
export * from './file.ts';
export * from './lower.ts';
export * from './packet.ts';
export * from './place.ts';
export * from './plain.ts';
export * from './type.ts';
