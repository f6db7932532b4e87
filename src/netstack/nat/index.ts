/** Address translation. */
export * from './hook.ts';
export * from './nat.ts';
export * from './range.ts';
export * from './targets.ts';
export { type UniqueContext, uniqueTuple } from './unique.ts';
