/** Kernel structures in the machine's memory, for programs to read through pointers. Programs cannot write them. */
import { VmError } from './error.ts';
import type { KernelLayout, StructLayout } from './kernel-layout.ts';
import type { LinearMemory } from './memory.ts';

const BLOCK_BYTES = 16_384;

export class KernelObject {
  readonly struct: string;
  /** What pointers to it hold. */
  readonly address: number;
  readonly #layout: StructLayout;
  readonly #memory: LinearMemory;

  constructor(memory: LinearMemory, struct: string, layout: StructLayout, address: number) {
    this.#memory = memory;
    this.struct = struct;
    this.#layout = layout;
    this.address = address;
  }

  /** Sets a member: a number or bigint in host order, another object (its address), or bytes as they are. */
  set(member: string, value: number | bigint | KernelObject | Uint8Array | undefined): this {
    const [offset, bytes] = this.#place(member);
    const at = this.address + offset;
    if (value instanceof Uint8Array) {
      this.#memory.u8.fill(0, at, at + bytes);
      this.#memory.u8.set(value.subarray(0, bytes), at);
      return this;
    }
    const number = value instanceof KernelObject ? value.address : (value ?? 0);
    const { view } = this.#memory;
    if (bytes === 8) view.setBigUint64(at, BigInt.asUintN(64, BigInt(number)), true);
    else if (bytes === 4) view.setInt32(at, Number(number) | 0, true);
    else if (bytes === 2) view.setInt16(at, Number(number), true);
    else view.setInt8(at, Number(number));
    return this;
  }

  /** Address of a member, for writing it often. */
  addressOf(member: string): number {
    return this.address + this.#place(member)[0];
  }

  /** Reads a member of up to 8 bytes, unsigned. */
  get(member: string): bigint {
    const [offset, bytes] = this.#place(member);
    const value = this.#memory.readU64(this.address + offset);
    return BigInt.asUintN(Math.min(8, bytes) * 8, value);
  }

  #place(member: string): readonly [number, number] {
    const place = this.#layout.member(member);
    if (place === undefined) {
      throw new VmError(
        'VM_CONTEXT',
        `struct ${this.struct} has no member ${member} in this machine's layout`,
      );
    }
    return place;
  }
}

/** Makes kernel objects; they live as long as the machine. */
export class KernelObjects {
  readonly #memory: LinearMemory;
  readonly #layout: KernelLayout;
  #next = 0;
  #end = 0;

  constructor(memory: LinearMemory, layout: KernelLayout) {
    this.#memory = memory;
    this.#layout = layout;
  }

  /** A zeroed structure with these members set. @throws VmError `VM_CONTEXT` for unknown names */
  create(
    struct: string,
    members: Readonly<Record<string, number | bigint | KernelObject | Uint8Array>> = {},
  ): KernelObject {
    const layout = this.#layout.struct(struct);
    if (layout === undefined)
      throw new VmError('VM_CONTEXT', `struct ${struct} is not in this machine's layout`);
    const bytes = (layout.size + 15) & ~15;
    if (this.#next + bytes > this.#end) {
      const block = Math.max(BLOCK_BYTES, bytes);
      this.#next = this.#memory.allocate(block);
      this.#end = this.#next + block;
      this.#memory.addRegion('kernel memory', this.#next, block, false);
    }
    const object = new KernelObject(this.#memory, struct, layout, this.#next);
    this.#next += bytes;
    for (const [member, value] of Object.entries(members)) object.set(member, value);
    return object;
  }
}
