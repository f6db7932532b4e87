/** Giving an assembled program this kernel's numbers: map descriptors, arena addresses, BTF ids, member offsets. */
import { type AssembledProgram, encodeProgram, link, type ReferenceResolver } from '../../isa/index.ts';
import type { Arena } from '../map/arena.ts';
import type { BpfMap } from '../map/map.ts';
import { KernelUnavailableError } from '../sys/error.ts';

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
 * @throws {KernelUnavailableError} `KERNEL_NO_KFUNC` when this kernel has not got a function that the program calls
 */
export function linkProgram(program: AssembledProgram, objects: ProgramObjects): Uint8Array {
  const { maps = {}, arenas = {}, types } = objects;
  if (types !== undefined) requireKfuncs(program, types);
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

/** Only the kernel's own BTF is asked: functions of a module (nf_conntrack built as one) cannot be called by its ids. */
function requireKfuncs(program: AssembledProgram, types: KernelTypes): void {
  for (const reference of program.references.values()) {
    if (reference.kind !== 'kfunc' || types.kfunc(reference.name) !== undefined) continue;
    const connection = reference.name.includes('_ct_');
    throw new KernelUnavailableError(
      'KERNEL_NO_KFUNC',
      `this kernel itself has no function ${reference.name}`,
      connection
        ? 'rules about connection state at xdp and tcx ingress want a kernel with CONFIG_NF_CONNTRACK=y; at netfilter they want nothing'
        : 'use a later kernel: `sluice doctor` tells what this one lacks',
    );
  }
}
