/** An unmodified iptables drives a policy: its table calls are answered in this process. */
export { type LiveCounters, MemoryEngine, type TableEngine } from './engine.ts';
export { SUPERVISOR_CODES, SupervisorError, type SupervisorErrorCode } from './error.ts';
export { type SuperviseOptions, supervise } from './launch.ts';
export { LiveEngine, type LiveEngineOptions } from './live-engine.ts';
export { findLegacyProgram, findProgram, SHIM_NAMES, Shims } from './shims.ts';
export { type Replaced, TableStore } from './store.ts';
