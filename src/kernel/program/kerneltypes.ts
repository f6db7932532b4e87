/** This kernel's own BTF, read once: BTF ids of kernel functions and structures, offsets of members. */
import { readFileSync } from 'node:fs';
import { type Btf, btfResolver, readBtf } from '../../btf/index.ts';
import { KernelUnavailableError } from '../sys/error.ts';
import type { KernelTypes } from './resolver.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';

let btf: Btf | undefined;
let types: KernelTypes | undefined;

/** The running kernel's BTF (5 to 10 MB in memory). @throws {KernelUnavailableError} `KERNEL_NO_BTF` */
export function kernelBtf(): Btf {
  if (btf === undefined) {
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(VMLINUX);
    } catch (cause) {
      throw new KernelUnavailableError(
        'KERNEL_NO_BTF',
        `this kernel does not describe its types: ${VMLINUX} cannot be read`,
        'use a kernel built with CONFIG_DEBUG_INFO_BTF, as all distributions do',
        { cause },
      );
    }
    btf = readBtf(bytes);
  }
  return btf;
}

/** Resolver for `linkProgram`; a name is searched for once in the process. */
export function kernelTypes(): KernelTypes {
  types ??= remember(btfResolver(kernelBtf()));
  return types;
}

function remember(resolver: KernelTypes): KernelTypes {
  const known = new Map<string, number | undefined>();
  const once = (key: string, search: () => number | undefined): number | undefined => {
    if (!known.has(key)) known.set(key, search());
    return known.get(key);
  };
  return {
    kfunc: (name) => once(`kfunc ${name}`, () => resolver.kfunc(name)),
    type: (name) => once(`type ${name}`, () => resolver.type(name)),
    variable: (name) => once(`variable ${name}`, () => resolver.variable(name)),
    field: (struct, member) => once(`field ${struct} ${member}`, () => resolver.field(struct, member)),
  };
}
