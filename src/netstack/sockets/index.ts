export { type ContextRule, checkContextAccess, skLookupMayRead } from './context-access.ts';
export { deliverToSockets, type SocketReceiver } from './deliver.ts';
export {
  BPF_OK,
  BPF_REDIRECT,
  BPF_REDIRECT_LOOKUP,
  InetLookup,
  InetLookupProgram,
  inetLookupMayRead,
} from './inet-lookup.ts';
export { findPacketSocket, findProxySocket, type UnroutedPacket } from './packet-socket.ts';
export { defaultFlowHash, type FlowHash, type SocketQuery } from './query.ts';
export { ReuseportGroup, type ReuseportProgram, selectReuseport } from './reuseport.ts';
export { listenerScore, udpScore } from './score.ts';
export { SkLookupLink, SkLookupPrograms } from './sk-lookup.ts';
export { NetSocket, type SocketOptions, type SocketStateName } from './socket.ts';
export { SocketTable, type Steering } from './table.ts';
