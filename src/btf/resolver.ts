/** The part of linking that BTF answers: kernel functions, structures, variables and member offsets. */
import type { ReferenceResolver } from '../isa/index.ts';
import type { Btf } from './btf.ts';

/** Resolves names by a kernel's BTF; maps and arenas are the loader's own business. */
export function btfResolver(btf: Btf): Pick<ReferenceResolver, 'kfunc' | 'type' | 'variable' | 'field'> {
  return {
    kfunc: (name) => btf.functionId(name),
    type: (name) => btf.structId(name),
    variable: (name) => btf.variableId(name),
    field: (struct, member) => {
      const place = btf.member(struct, member);
      return place === undefined || place.bits !== 0 ? undefined : place.byteOffset;
    },
  };
}
