/** The netstack as an engine: tables in it, and stacks made from configurations. */
export * from './tables.ts';
