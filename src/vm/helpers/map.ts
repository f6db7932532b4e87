/** Helpers on maps (`kernel/bpf/helpers.c`, `kernel/bpf/ringbuf.c`, `kernel/bpf/core.c` for tail calls). */

import { PerCpuArrayMap } from '../maps/array.ts';
import { EventArrayMap } from '../maps/create.ts';
import { HashMap } from '../maps/hash.ts';
import { EINVAL } from '../maps/map.ts';
import { ObjectMap } from '../maps/object-map.ts';
import { QueueMap } from '../maps/queue.ts';
import { RingBufferMap } from '../maps/ring-buffer.ts';
import { Program } from '../program.ts';
import {
  type HelperFunction,
  mapArgument,
  mapOfClass,
  pointer,
  pointerOrNull,
  u32,
  u64,
} from './arguments.ts';
import { MAX_TAIL_CALLS } from './limits.ts';

const BPF_F_INDEX_MASK = 0xffffffffn;

const lookup: HelperFunction = (m) => {
  const map = mapArgument(m, 1);
  return map.lookupAt(pointer(m, 2, map.spec.keySize, 'read'));
};

const lookupPerCpu: HelperFunction = (m) => {
  const map = mapArgument(m, 1);
  const key = pointer(m, 2, map.spec.keySize, 'read');
  if (map instanceof PerCpuArrayMap || (map instanceof HashMap && map.perCpu))
    return map.lookupCpu(key, u32(m, 3));
  return m.fail('VM_ARGUMENT', `map ${map.spec.name} has no per-CPU values`);
};

const update: HelperFunction = (m) => {
  const map = mapArgument(m, 1);
  const key = pointer(m, 2, map.spec.keySize, 'read');
  const value = pointer(m, 3, map.spec.valueSize, 'read');
  const flags = u64(m, 4);
  return flags > 0xffn ? -EINVAL : map.updateAt(key, value, Number(flags));
};

const remove: HelperFunction = (m) => {
  const map = mapArgument(m, 1);
  return map.deleteAt(pointer(m, 2, map.spec.keySize, 'read'));
};

const push: HelperFunction = (m) => {
  const map = mapOfClass(m, 1, QueueMap);
  return map.push(pointer(m, 2, map.spec.valueSize, 'read'), u32(m, 3));
};
const pop: HelperFunction = (m) => {
  const map = mapOfClass(m, 1, QueueMap);
  return map.pop(pointer(m, 2, map.spec.valueSize, 'write'));
};
const peek: HelperFunction = (m) => {
  const map = mapOfClass(m, 1, QueueMap);
  return map.peek(pointer(m, 2, map.spec.valueSize, 'write'));
};

/** Calls the callback with (map, &key, &value, context) until it returns something else than 0. */
const forEach: HelperFunction = (m) => {
  const map = mapArgument(m, 1);
  if (u64(m, 4) !== 0n) return -EINVAL;
  const callback = m.callbackArgument(2);
  const context = u32(m, 3);
  const scratch = m.memory.allocate(Math.max(8, map.spec.keySize));
  const region = m.memory.addRegion('key', scratch, map.spec.keySize, false);
  let seen = 0;
  try {
    for (const key of [...map.keys()]) {
      m.memory.u8.set(key, scratch);
      const value = map.lookupAt(scratch);
      if (value === 0) continue;
      seen++;
      if (m.callBack(callback, map.handle, scratch, value, context) !== 0) break;
    }
  } finally {
    m.memory.removeRegion(region);
    m.memory.release(scratch, Math.max(8, map.spec.keySize));
  }
  return seen;
};

const tailCall: HelperFunction = (m) => {
  const map = mapOfClass(m, 2, ObjectMap);
  const target = map.object(u32(m, 3));
  if (!(target instanceof Program) || m.tailCalls >= MAX_TAIL_CALLS) return -EINVAL;
  m.tailCalls++;
  m.tailTarget = target.start;
  return 0;
};

const reserve: HelperFunction = (m) => {
  const map = mapOfClass(m, 1, RingBufferMap);
  if (u64(m, 3) !== 0n || u64(m, 2) > 0x3fffffffn) return 0;
  return map.reserve(u32(m, 2));
};

/** Submit and discard find the ring buffer by the record's address, as the kernel does by its page. */
function commit(discard: boolean): HelperFunction {
  return (m) => {
    const address = pointer(m, 1, 0, 'read');
    for (const map of m.ringBuffers()) if (map.commit(address, discard)) return 0;
    return m.fail('VM_ARGUMENT', 'argument 1 is not a reserved record');
  };
}

const output: HelperFunction = (m) => {
  const bytes = u32(m, 3);
  return mapOfClass(m, 1, RingBufferMap).output(pointerOrNull(m, 2, bytes, 'read'), bytes);
};

const query: HelperFunction = (m) => {
  const question = u64(m, 2);
  return mapOfClass(m, 1, RingBufferMap).query(question < 4n ? Number(question) : 4);
};

/** The flags' upper half asks for so many bytes of the packet behind the data. */
const perfEvent: HelperFunction = (m) => {
  const map = mapOfClass(m, 2, EventArrayMap);
  const flags = u64(m, 3);
  const bytes = u32(m, 5);
  const data = pointerOrNull(m, 4, bytes, 'read');
  const packet = m.context?.packet;
  const extra = Number((flags >> 32n) & 0xfffffn);
  if (extra > (packet?.length ?? 0)) return -14;
  const cpu = (flags & BPF_F_INDEX_MASK) === BPF_F_INDEX_MASK ? m.cpu : Number(flags & BPF_F_INDEX_MASK);
  if (cpu >= map.spec.maxEntries) return -7;
  const event = new Uint8Array(bytes + extra);
  event.set(m.memory.u8.subarray(data, data + bytes));
  if (packet !== undefined) event.set(packet.bytes.subarray(0, extra), bytes);
  m.environment.perfEvent?.(map.spec.name, cpu, event);
  return 0;
};

export const MAP_HELPERS: Readonly<Record<string, HelperFunction>> = {
  bpf_map_lookup_elem: lookup,
  bpf_map_update_elem: update,
  bpf_map_delete_elem: remove,
  bpf_map_push_elem: push,
  bpf_map_pop_elem: pop,
  bpf_map_peek_elem: peek,
  bpf_map_lookup_percpu_elem: lookupPerCpu,
  bpf_for_each_map_elem: forEach,
  bpf_tail_call: tailCall,
  bpf_ringbuf_reserve: reserve,
  bpf_ringbuf_submit: commit(false),
  bpf_ringbuf_discard: commit(true),
  bpf_ringbuf_output: output,
  bpf_ringbuf_query: query,
  bpf_perf_event_output: perfEvent,
};
