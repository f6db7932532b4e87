export { type DestinationState, Destinations, type MemberState } from './destinations.ts';
export { ArenaMemory } from './memory.ts';
export { type ArenaOwner, SocketState } from './state.ts';
