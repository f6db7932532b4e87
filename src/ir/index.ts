/** Intermediate representation: predicates over packet fields and state, actions, chains. */
export * from './action.ts';
export * from './hook.ts';
export * from './predicate.ts';
export * from './program.ts';
