/** Giving an assembled program this kernel's numbers: map descriptors, arena addresses, BTF ids, member offsets. */
import { type AssembledProgram, encodeProgram, link, type ReferenceResolver } from '../../isa/index.ts';
import type { Arena } from '../map/arena.ts';
import type { BpfMap } from '../map/map.ts';

/** What the kernel's BTF knows: the part of a resolver that does not depend on the program. */
export type KernelTypes = Pick<ReferenceResolver, 'kfunc' | 'type' | 'variable' | 'field'>;

/** The objects that a program's references name. */
export interface ProgramObjects {
  readonly maps?: Readonly<Record<string, BpfMap>>;
  readonly arenas?: Readonly<Record<string, Arena>>;
  /** Needed by programs that call kernel functions or read kernel structures; see `kernelTypes`. */
  readonly types?: KernelTypes;
}

/**
 * Resolves all references and encodes: what `Program.load` takes as `instructions`.
 * @throws {IsaError} `ISA_UNRESOLVED` naming the first reference that has no object
 */
export function linkProgram(program: AssembledProgram, objects: ProgramObjects): Uint8Array {
  const { maps = {}, arenas = {}, types } = objects;
  const slots = link(program, {
    map: (name) => maps[name]?.fd.number ?? arenas[name]?.map.fd.number,
    arena: (name) => arenas[name]?.address,
    kfunc: (name) => types?.kfunc(name),
    type: (name) => types?.type(name),
    variable: (name) => types?.variable(name),
    field: (struct, member) => types?.field(struct, member),
  });
  return encodeProgram(slots);
}
