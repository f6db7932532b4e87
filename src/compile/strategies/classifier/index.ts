/** The strategy `classifier`: rules are data, one program for all of them. */
export { type ChainReport, MAX_LINEAR_RULES } from './chains.ts';
export {
  type CallsCache,
  type ChainEdit,
  type EditRequest,
  editTables,
  keyOf,
  type NotEdited,
  type TableEdit,
  takeCounters,
  type WantedChain,
  type Written,
} from './edit.ts';
export type { Piece } from './joining.ts';
export { listTables, type TableNames } from './listing.ts';
export type { ArenaBytes } from './live.ts';
export { emitClassifierSection } from './program.ts';
export type { SetUse } from './setuse.ts';
export { buildTables, type ClassifierTables, plannedSetUse, whyNoTables } from './tables.ts';
