/** Replays: captures decided by an engine, packet by packet. */
export * from './capture.ts';
export * from './engine.ts';
export { decisionOf, EvaluationEngine } from './evaluation.ts';
export { InterpreterEngine } from './interpreter.ts';
export { kernelEngine } from './kernel.ts';
export { PacketHopsError } from './live/engine.ts';
export * from './netstack.ts';
export { PacketTooLongError } from './testrun.ts';
