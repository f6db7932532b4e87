/** Base-hook programs: hook lists unrolled into eBPF, shared among namespaces. */
export * from './cache.ts';
export * from './engine.ts';
export * from './generate.ts';
export * from './layout.ts';
export * from './runner.ts';
