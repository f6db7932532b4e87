/** Replays: captures decided by an engine, packet by packet. */
export * from './capture.ts';
export * from './engine.ts';
export { decisionOf, EvaluationEngine } from './evaluation.ts';
export { InterpreterEngine } from './interpreter.ts';
export { KernelEngine, PacketTooLongError } from './kernel.ts';
export * from './netstack.ts';
