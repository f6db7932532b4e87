/** Reference semantics: what the kernel's tables do to a packet. The oracle that everything else is compared with. */
export * from './explain.ts';
export * from './header.ts';
export * from './host.ts';
export * from './packet.ts';
export * from './packet-host.ts';
export * from './path.ts';
export * from './prepared.ts';
export * from './routing.ts';
export * from './walk.ts';
