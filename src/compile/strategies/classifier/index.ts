/** The strategy `classifier`: rules are data, one program for all of them. */
export { type ChainReport, MAX_LINEAR_RULES } from './chains.ts';
export { emitClassifierSection } from './program.ts';
export { buildTables, type ClassifierTables, plannedSetUse, whyNoTables } from './tables.ts';
