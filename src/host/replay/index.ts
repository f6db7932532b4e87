/** Replays: captures decided by an engine, packet by packet. */
export * from './capture.ts';
export * from './engine.ts';
export * from './evaluation.ts';
