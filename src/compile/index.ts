/** Rules to eBPF: plain data out, the same for the same input, no kernel needed. */
export * from './actionchain.ts';
export * from './actions/handed.ts';
export * from './actions/log.ts';
export * from './annotate.ts';
export * from './arena/image.ts';
export * from './arena/layout.ts';
export * from './arena/memory.ts';
export * from './arena/surroundings.ts';
export * from './attach.ts';
export * from './compile.ts';
export * from './dispatcher.ts';
export { type MarkChanges, NO_MARK_CHANGES, unionOfMarks } from './emit/emission.ts';
export type { LogPoint } from './emit/logpoint.ts';
export * from './error.ts';
export { FRAGMENTS_MAP, type FragmentStrategy } from './fragments.ts';
export * from './lower/table.ts';
export * from './plan.ts';
export * from './program.ts';
export type { SectionPlan } from './section.ts';
export * from './sets/index.ts';
export * from './strategies/choose.ts';
export {
  type ArenaBytes,
  type CallsCache,
  type ChainEdit,
  type ChainReport,
  type EditRequest,
  editTables,
  keyOf,
  listTables,
  type NotEdited,
  type Piece,
  type TableEdit,
  type TableNames,
  takeCounters,
  type WantedChain,
  type Written,
} from './strategies/classifier/index.ts';
export type { ChainRun } from './strategies/inline/chain.ts';
export * from './support.ts';
