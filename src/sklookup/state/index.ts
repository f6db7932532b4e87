export { ArenaMemory } from './memory.ts';
export { type ArenaOwner, type DestinationState, type MemberState, SocketState } from './state.ts';
