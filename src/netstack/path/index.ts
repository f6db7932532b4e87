/** The packet path: devices, addresses, routes, and every station between them. */
export * from './event.ts';
export * from './fib.ts';
export { type ProgramOutcome, type ProgramRunner, XdpAction } from './ingress.ts';
export * from './routing.ts';
export * from './settings.ts';
export * from './stack.ts';
