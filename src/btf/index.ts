/** BPF Type Format: what the running kernel says of its own structures and functions. */
export * from './btf.ts';
export * from './error.ts';
export * from './kind.ts';
export * from './resolver.ts';
