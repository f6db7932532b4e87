/**
 * The user-space virtual machine: maps, helpers, contexts and an interpreter for the whole instruction set.
 *
 * @example
 * const machine = new Machine();
 * const program = machine.load(assembled, { type: 'BPF_PROG_TYPE_XDP' });
 * const packet = machine.createPacket().set(bytes, 14);
 * const verdict = program.run(new XdpContext(machine, packet));
 */
export * from './context.ts';
export * from './environment.ts';
export * from './error.ts';
export {
  contextArgument,
  type HelperFunction,
  packetArgument,
  pointer,
  s32,
  u32,
  u64,
} from './helpers/arguments.ts';
export { jiffies } from './helpers/general.ts';
export * from './kernel-layout.ts';
export { KernelObject, KernelObjects } from './kernel-objects.ts';
export * from './machine.ts';
export { ARENA_PAGE_BYTES, ArenaMap } from './maps/arena.ts';
export { ArrayMap, PerCpuArrayMap } from './maps/array.ts';
export type { NestedMap, ProgramArrayMap } from './maps/create.ts';
export { HashMap } from './maps/hash.ts';
export { LpmTrieMap } from './maps/lpm-trie.ts';
export {
  BPF_ANY,
  BPF_EXIST,
  BPF_F_MMAPABLE,
  BPF_F_NO_PREALLOC,
  BPF_NOEXIST,
  type MapSpec,
  VmMap,
} from './maps/map.ts';
export { ObjectMap } from './maps/object-map.ts';
export { QueueMap } from './maps/queue.ts';
export { RingBufferMap } from './maps/ring-buffer.ts';
export { SocketMap } from './maps/socket-map.ts';
export { LinearMemory, type Region } from './memory.ts';
export * from './packet.ts';
export * from './program.ts';
