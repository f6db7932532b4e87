/** Reassembly of IPv4 and IPv6 datagrams as Linux does it, and cutting them up again. */
export * from './context.ts';
export * from './ecn.ts';
export * from './fragment-ipv4.ts';
export * from './fragment-ipv6.ts';
export * from './hook.ts';
export * from './ipv4.ts';
export * from './ipv4-queue.ts';
export * from './ipv6.ts';
export * from './ipv6-netfilter.ts';
export * from './ipv6-queue.ts';
export * from './kfunc.ts';
export * from './queue.ts';
export * from './reassemble.ts';
export * from './trace.ts';
export * from './users.ts';
