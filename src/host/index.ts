/** What commands do: engines behind one interface, and policies that live in the kernel. */
export * from './netstack/index.ts';
export * from './policy/index.ts';
export * from './replay/index.ts';
export * from './sockets/index.ts';
export * from './supervisor/index.ts';
