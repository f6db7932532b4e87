export { Arena, type ArenaOptions, SHARED_ARENA_BASE } from './arena.ts';
export { deleteBatch, lookupBatch, type MapBatch, updateBatch } from './batch.ts';
export {
  BpfMap,
  type MapDescription,
  type MapKey,
  type MapSpec,
  type MapTypeName,
  type MapValue,
  possibleCpus,
} from './map.ts';
export { RingBuffer } from './ringbuf.ts';
