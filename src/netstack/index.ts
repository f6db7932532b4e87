/** Linux's packet path in user space. */
export * from './clock.ts';
export * from './conntrack/index.ts';
export * from './counters.ts';
export * from './defrag/index.ts';
export * from './errno.ts';
export * from './hooks/index.ts';
export * from './icmp-error.ts';
export * from './input/index.ts';
export * from './ipv6-header.ts';
export * from './nat/index.ts';
export * from './netns.ts';
export * from './path/index.ts';
export * from './skb.ts';
export * from './sockets/index.ts';
