/** Netfilter hooks: registration, verdicts, queues, links. */
export * from './entries.ts';
export * from './family.ts';
export * from './generator/index.ts';
export * from './link/index.ts';
export * from './netfilter.ts';
export * from './nfqueue.ts';
export * from './queue.ts';
export * from './registry.ts';
export * from './slow.ts';
export * from './state.ts';
export * from './verdict.ts';
