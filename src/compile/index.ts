/** Rules to eBPF: plain data out, the same for the same input, no kernel needed. */
export * from './actions/handed.ts';
export * from './actions/log.ts';
export * from './annotate.ts';
export * from './arena/image.ts';
export * from './arena/layout.ts';
export * from './arena/memory.ts';
export * from './attach.ts';
export * from './compile.ts';
export * from './dispatcher.ts';
export type { MarkOperation } from './emit/emission.ts';
export type { LogPoint } from './emit/logpoint.ts';
export * from './error.ts';
export * from './lower/table.ts';
export * from './plan.ts';
export * from './program.ts';
export type { FragmentStrategy, SectionPlan } from './section.ts';
export type { ChainRun } from './strategies/inline/chain.ts';
export * from './support.ts';
