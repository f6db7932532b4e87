/** IP sets: their tables in the arena, and the code that looks at them and changes them. */
export * from './create.ts';
export * from './layout.ts';
export * from './memory.ts';
export * from './table.ts';
