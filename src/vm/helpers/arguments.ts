/** How helpers read their arguments: registers r1..r5, checked as the verifier would have checked them. */

import type { Context } from '../context.ts';
import * as layout from '../layout.ts';
import type { Machine } from '../machine.ts';
import type { VmMap } from '../maps/map.ts';
import type { Packet } from '../packet.ts';

/** A helper or kernel function: reads its arguments from the machine's registers; its result goes to r0. */
export type HelperFunction = (machine: Machine) => number | bigint;

const R = layout.REGISTERS >> 2;

/** Low 32 bits of argument 1..5, unsigned. */
export function u32(machine: Machine, argument: number): number {
  return machine.memory.u32[R + argument * 2]!;
}
/** Low 32 bits, signed. */
export function s32(machine: Machine, argument: number): number {
  return machine.memory.i32[R + argument * 2]!;
}
export function u64(machine: Machine, argument: number): bigint {
  return machine.memory.readU64(layout.REGISTERS + argument * 8);
}

/** An address with so many bytes that the program may read, or write. Stops the program otherwise. */
export function pointer(machine: Machine, argument: number, bytes: number, access: 'read' | 'write'): number {
  const address = u32(machine, argument);
  const wild = machine.memory.u32[R + argument * 2 + 1] !== 0;
  if (wild || machine.memory.findRegion(address, Math.max(1, bytes), access === 'write') === undefined) {
    const place = wild ? 'outside the address space' : machine.memory.describe(address);
    return machine.fail('VM_ACCESS', `argument ${argument}: cannot ${access} ${bytes} bytes: ${place}`);
  }
  return address;
}

/** As `pointer`, but a null pointer with size 0 gives 0. */
export function pointerOrNull(
  machine: Machine,
  argument: number,
  bytes: number,
  access: 'read' | 'write',
): number {
  if (bytes === 0 && u64(machine, argument) === 0n) return 0;
  return pointer(machine, argument, bytes, access);
}

/** The map whose pointer the argument is. */
export function mapArgument(machine: Machine, argument: number): VmMap {
  const map = u64(machine, argument) < 0x80000000n ? machine.mapOf(u32(machine, argument)) : undefined;
  return map ?? machine.fail('VM_ARGUMENT', `argument ${argument} is not a map`);
}

/** A map of one class. */
export function mapOfClass<T extends VmMap>(
  machine: Machine,
  argument: number,
  kind: abstract new (...given: never[]) => T,
): T {
  const map = mapArgument(machine, argument);
  if (map instanceof kind) return map;
  return machine.fail(
    'VM_ARGUMENT',
    `map ${map.spec.name} of type ${map.spec.type} cannot be used with this helper`,
  );
}

/** The context of the run, when the argument points to it (or to the kernel's structures behind it). */
export function contextArgument(machine: Machine, argument: number): Context {
  const { context } = machine;
  const address = u64(machine, argument);
  if (context !== undefined && address !== 0n) {
    const { address: own, kernelAddress, skbAddress } = context;
    if ([own, kernelAddress, skbAddress].includes(Number(address))) return context;
  }
  return machine.fail('VM_ARGUMENT', `argument ${argument} is not the context`);
}

/** The packet of the context. */
export function packetArgument(machine: Machine, argument: number): Packet {
  return (
    contextArgument(machine, argument).packet ?? machine.fail('VM_ARGUMENT', 'the context has no packet')
  );
}
