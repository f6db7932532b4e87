/** Creation of maps: the checks of each type's `map_alloc_check`, and the class that implements it. */

import { VmError } from '../error.ts';
import type { Program } from '../program.ts';
import { ArenaMap } from './arena.ts';
import { ArrayMap, PerCpuArrayMap } from './array.ts';
import { HashMap } from './hash.ts';
import { LpmTrieMap } from './lpm-trie.ts';
import { BPF_F_NO_PREALLOC, type MapHost, type MapSpec, UnkeyedMap, type VmMap } from './map.ts';
import { ObjectMap } from './object-map.ts';
import { QueueMap } from './queue.ts';
import { RingBufferMap } from './ring-buffer.ts';
import { SocketMap } from './socket-map.ts';

/** Map of maps. */
export type NestedMap = ObjectMap<VmMap>;
/** Programs for tail calls. */
export type ProgramArrayMap = ObjectMap<Program>;

/** Place for events; what programs output goes to the machine's environment. */
export class EventArrayMap extends UnkeyedMap {}

/** @throws VmError `VM_MAP` for sizes and flags that the kernel refuses, or a type that this machine does not have */
export function createMap(host: MapHost, spec: MapSpec, handle: number): VmMap {
  const fault = faultOf(spec);
  if (fault !== undefined) throw new VmError('VM_MAP', `map ${spec.name}: ${fault}`);
  switch (spec.type) {
    case 'BPF_MAP_TYPE_ARRAY':
      return new ArrayMap(host, spec, handle);
    case 'BPF_MAP_TYPE_PERCPU_ARRAY':
      return new PerCpuArrayMap(host, spec, handle);
    case 'BPF_MAP_TYPE_HASH':
      return new HashMap(host, spec, handle, { perCpu: false, lru: false });
    case 'BPF_MAP_TYPE_PERCPU_HASH':
      return new HashMap(host, spec, handle, { perCpu: true, lru: false });
    case 'BPF_MAP_TYPE_LRU_HASH':
      return new HashMap(host, spec, handle, { perCpu: false, lru: true });
    case 'BPF_MAP_TYPE_LRU_PERCPU_HASH':
      return new HashMap(host, spec, handle, { perCpu: true, lru: true });
    case 'BPF_MAP_TYPE_LPM_TRIE':
      return new LpmTrieMap(host, spec, handle);
    case 'BPF_MAP_TYPE_QUEUE':
    case 'BPF_MAP_TYPE_STACK':
      return new QueueMap(host, spec, handle);
    case 'BPF_MAP_TYPE_RINGBUF':
      return new RingBufferMap(host, spec, handle);
    case 'BPF_MAP_TYPE_ARENA':
      return new ArenaMap(host, spec, handle);
    case 'BPF_MAP_TYPE_PERF_EVENT_ARRAY':
      return new EventArrayMap(host, spec, handle);
    case 'BPF_MAP_TYPE_SOCKMAP':
    case 'BPF_MAP_TYPE_SOCKHASH':
    case 'BPF_MAP_TYPE_REUSEPORT_SOCKARRAY':
      return new SocketMap(host, spec, handle);
    case 'BPF_MAP_TYPE_PROG_ARRAY':
      return new ObjectMap<Program>(host, spec, handle, () => undefined);
    case 'BPF_MAP_TYPE_ARRAY_OF_MAPS':
    case 'BPF_MAP_TYPE_HASH_OF_MAPS':
      return new ObjectMap<VmMap>(host, spec, handle, (inner) => innerFault(spec.inner!, inner.spec));
    default:
      throw new VmError('VM_MAP', `map ${spec.name}: ${spec.type} is not implemented`);
  }
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

function faultOf(spec: MapSpec): string | undefined {
  const { type, keySize, valueSize, maxEntries } = spec;
  if (![keySize, valueSize, maxEntries].every((value) => Number.isInteger(value) && value >= 0))
    return 'sizes must be whole numbers';
  if (maxEntries === 0) return 'max_entries must not be 0';
  switch (type) {
    case 'BPF_MAP_TYPE_RINGBUF':
      if (keySize !== 0 || valueSize !== 0) return 'a ring buffer has no keys and values';
      return isPowerOfTwo(maxEntries) && maxEntries % 4096 === 0
        ? undefined
        : 'max_entries must be a power of two and whole pages';
    case 'BPF_MAP_TYPE_ARENA':
      return keySize === 0 && valueSize === 0 ? undefined : 'an arena has no keys and values';
    case 'BPF_MAP_TYPE_QUEUE':
    case 'BPF_MAP_TYPE_STACK':
      return keySize === 0 && valueSize > 0 ? undefined : 'a queue has values only';
    case 'BPF_MAP_TYPE_LPM_TRIE':
      if (((spec.flags ?? 0) & BPF_F_NO_PREALLOC) === 0) return 'an LPM trie needs BPF_F_NO_PREALLOC';
      return keySize >= 5 && keySize <= 260 && valueSize > 0
        ? undefined
        : 'a trie has keys of 5 to 260 bytes and values';
    case 'BPF_MAP_TYPE_ARRAY':
    case 'BPF_MAP_TYPE_PERCPU_ARRAY':
      return keySize === 4 && valueSize > 0 ? undefined : 'an array has keys of 4 bytes and values';
    case 'BPF_MAP_TYPE_PROG_ARRAY':
    case 'BPF_MAP_TYPE_PERF_EVENT_ARRAY':
      return keySize === 4 && valueSize === 4 ? undefined : 'keys and values have 4 bytes';
    case 'BPF_MAP_TYPE_SOCKMAP':
    case 'BPF_MAP_TYPE_REUSEPORT_SOCKARRAY':
      return keySize === 4 && (valueSize === 4 || valueSize === 8)
        ? undefined
        : 'keys have 4 bytes, values 4 or 8';
    case 'BPF_MAP_TYPE_SOCKHASH':
      return keySize > 0 && (valueSize === 4 || valueSize === 8) ? undefined : 'values have 4 or 8 bytes';
    case 'BPF_MAP_TYPE_ARRAY_OF_MAPS':
    case 'BPF_MAP_TYPE_HASH_OF_MAPS':
      if (spec.inner === undefined) return 'a map of maps needs the shape of the inner maps';
      if (valueSize !== 4 || keySize === 0) return 'values of a map of maps have 4 bytes';
      return type === 'BPF_MAP_TYPE_HASH_OF_MAPS' || keySize === 4
        ? undefined
        : 'an array has keys of 4 bytes';
    default:
      return keySize > 0 && valueSize > 0 ? undefined : 'a hash has keys and values';
  }
}

/** `bpf_map_meta_equal`: inner maps must look alike. */
function innerFault(wanted: MapSpec, given: MapSpec): string | undefined {
  const alike =
    wanted.type === given.type &&
    wanted.keySize === given.keySize &&
    wanted.valueSize === given.valueSize &&
    (wanted.flags ?? 0) === (given.flags ?? 0) &&
    (wanted.type !== 'BPF_MAP_TYPE_ARRAY' || wanted.maxEntries === given.maxEntries);
  return alike ? undefined : 'EINVAL: the inner map is of another shape';
}
