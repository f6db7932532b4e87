/** What commands do: engines behind one interface, and policies that live in the kernel. */
export * from './replay/index.ts';
export * from './sockets/index.ts';
