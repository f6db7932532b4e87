/** The packet path: devices, addresses, routes, and every station between them. */
export * from './duplicate.ts';
export * from './event.ts';
export * from './fib.ts';
export { type ProgramOutcome, type ProgramRunner, XdpAction } from './ingress.ts';
export * from './machine.ts';
export { routeOutput } from './output.ts';
export * from './reject.ts';
export * from './routing.ts';
export * from './settings.ts';
export * from './stack.ts';
