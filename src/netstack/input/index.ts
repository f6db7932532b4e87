/** How packets come in: header checks and local delivery. */
export * from './ipv4.ts';
export * from './ipv6.ts';
export * from './martian.ts';
