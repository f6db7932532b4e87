/**
 * Symbolic references of an assembled program: what is known only where the program is loaded.
 *
 * An assembled program is plain data and the same for every kernel and for the user-space machine. Linking replaces
 * names by that loader's numbers: map descriptors, BTF ids, and offsets of kernel structure members.
 */
import { IsaError } from './error.ts';
import type { Instruction } from './instruction.ts';

/** What an instruction stands for until it is linked. */
export type Reference =
  /** `ld_imm64` of a map: imm = descriptor. */
  | { readonly kind: 'map'; readonly name: string }
  /** `ld_imm64` of the address of byte `offset` of a map's (first) value: imm = descriptor, second imm = offset. */
  | { readonly kind: 'mapValue'; readonly name: string; readonly offset: number }
  /** `ld_imm64` of the user-space address of byte `offset` of an arena: a plain 64-bit constant. */
  | { readonly kind: 'arena'; readonly name: string; readonly offset: number }
  /** `ld_imm64` of a kernel variable by its BTF id. */
  | { readonly kind: 'variable'; readonly name: string }
  /** A call of a kernel function: imm = BTF id of the function. */
  | { readonly kind: 'kfunc'; readonly name: string }
  /** An immediate that is the BTF id of a structure (second argument of bpf_rdonly_cast). */
  | { readonly kind: 'type'; readonly name: string }
  /** A load whose offset is that of a structure member; `member` may be a path ("nd_net.net"). */
  | { readonly kind: 'field'; readonly struct: string; readonly member: string };

/** The loader's side of linking. Each function answers `undefined` for a name it does not know. */
export interface ReferenceResolver {
  /** Descriptor of a map. */
  map(name: string): number | undefined;
  /** User-space address of the first byte of an arena. */
  arena(name: string): bigint | undefined;
  /** BTF id of a kernel function. */
  kfunc(name: string): number | undefined;
  /** BTF id of a structure. */
  type(name: string): number | undefined;
  /** BTF id of a kernel variable. */
  variable(name: string): number | undefined;
  /** Byte offset of a member. */
  field(struct: string, member: string): number | undefined;
}

/** A function of a program; `start` is its first slot. The main function is the first and starts at 0. */
export interface ProgramFunction {
  readonly name: string;
  readonly start: number;
}

/**
 * A program before linking. `Tag` is whatever the producer wants to know of each instruction (its rule, say).
 * All indexes are slots.
 */
export interface AssembledProgram<Tag = unknown> {
  readonly instructions: readonly Instruction[];
  readonly references: ReadonlyMap<number, Reference>;
  /** Tag in force when the instruction was emitted; both slots of `ld_imm64` carry it. */
  readonly tags: readonly (Tag | undefined)[];
  /** Remarks for listings. */
  readonly notes: ReadonlyMap<number, string>;
  readonly functions: readonly ProgramFunction[];
}

const HIGH_32 = 32n;

/** Readable form of a reference, as listings show it. */
export function formatReference(reference: Reference): string {
  switch (reference.kind) {
    case 'map':
      return `map[${reference.name}]`;
    case 'mapValue':
      return `map[${reference.name}][0]+${reference.offset}`;
    case 'arena':
      return `arena[${reference.name}]+${reference.offset}`;
    case 'variable':
      return `variable[${reference.name}]`;
    case 'kfunc':
      return reference.name;
    case 'type':
      return `type[${reference.name}]`;
    case 'field':
      return `${reference.struct}.${reference.member}`;
  }
}

/**
 * Replaces every reference by the loader's number.
 *
 * @returns the slots to load
 * @throws IsaError `ISA_UNRESOLVED` naming the first reference that has no value, `ISA_FIELD_RANGE` when a value does not fit
 */
export function link(program: AssembledProgram, resolver: ReferenceResolver): Instruction[] {
  const linked = [...program.instructions];
  for (const [index, reference] of program.references) {
    const slot = linked[index]!;
    const known = <T>(value: T | undefined): T => {
      if (value === undefined) {
        throw new IsaError(
          'ISA_UNRESOLVED',
          `${reference.kind} ${formatReference(reference)} is not known here`,
          {
            index,
            hint: unresolvedHint(reference),
          },
        );
      }
      return value;
    };
    switch (reference.kind) {
      case 'map':
        linked[index] = { ...slot, imm: known(resolver.map(reference.name)) };
        break;
      case 'mapValue':
        linked[index] = { ...slot, imm: known(resolver.map(reference.name)) };
        linked[index + 1] = { ...linked[index + 1]!, imm: reference.offset | 0 };
        break;
      case 'arena': {
        const address = known(resolver.arena(reference.name)) + BigInt(reference.offset);
        linked[index] = { ...slot, imm: Number(BigInt.asIntN(32, address)) };
        linked[index + 1] = { ...linked[index + 1]!, imm: Number(BigInt.asIntN(32, address >> HIGH_32)) };
        break;
      }
      case 'variable':
        linked[index] = { ...slot, imm: known(resolver.variable(reference.name)) };
        break;
      case 'kfunc':
        linked[index] = { ...slot, imm: known(resolver.kfunc(reference.name)) };
        break;
      case 'type':
        linked[index] = { ...slot, imm: known(resolver.type(reference.name)) };
        break;
      case 'field': {
        const off = known(resolver.field(reference.struct, reference.member)) + slot.off;
        if (off < -0x8000 || off > 0x7fff) {
          throw new IsaError(
            'ISA_FIELD_RANGE',
            `offset ${off} of ${formatReference(reference)} does not fit a load`,
            { index },
          );
        }
        linked[index] = { ...slot, off };
        break;
      }
    }
  }
  return linked;
}

function unresolvedHint(reference: Reference): string {
  switch (reference.kind) {
    case 'kfunc':
    case 'type':
    case 'variable':
    case 'field':
      return 'this kernel does not offer it: a newer kernel, or one with BTF, is needed';
    default:
      return 'create the map before loading the program';
  }
}
