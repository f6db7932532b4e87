/** The netstack as an engine: tables in it, and what it is made of. */
export { parseHostConfig } from './config.ts';
export { restoreConnections } from './connections.ts';
export { readLiveHost } from './live.ts';
export { type HostSettings, HostSettingsError } from './settings.ts';
export * from './tables.ts';
