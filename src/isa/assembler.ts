/**
 * Assembler: a program as a sequence of method calls, with labels, functions and symbolic references.
 *
 * Jumps name labels; `finish` lays the program out, makes far jumps reach (see `layout.ts`) and checks the result.
 * What only the loader knows (map descriptors, BTF ids, member offsets) stays symbolic: see `reference.ts`.
 */
import { checkProgram } from './check.ts';
import { IsaError } from './error.ts';
import { type HelperName, helperId } from './helper.ts';
import { type Item, type Label, type LabelState, layOut, makeLabel } from './layout.ts';
import * as op from './opcode.ts';
import { prunedItems } from './prune.ts';
import type { AssembledProgram, ProgramFunction, Reference } from './reference.ts';
import { R0, type Register } from './register.ts';

/** The second operand of arithmetic, of comparisons and of stores. */
export type Operand = Register | number;
export interface FinishOptions {
  /** Leaves out what control cannot reach, and needless jumps; see `prune.ts`. */
  readonly prune?: boolean;
}
/** Bits that a conversion keeps. */
export type SwapBits = 16 | 32 | 64;

/**
 * Emits instructions in order. Every method returns the assembler, so that short sequences can be chained.
 *
 * Immediates: 32-bit operations and stores take any value of their width, signed or unsigned; 64-bit operations
 * sign-extend a 32-bit immediate, so they take -2^31 .. 2^31-1 only (anything else: `loadConstant`).
 *
 * @example
 * const asm = new Assembler();
 * const drop = asm.label('drop');
 * asm.load('u16', R3, R1, 12).jump('!=', R3, 0x0008, drop).mov(R0, 1).exit();
 * asm.place(drop).mov(R0, 0).exit();
 * const program = asm.finish();
 */
export class Assembler<Tag = unknown> {
  readonly #items: Item[] = [];
  readonly #labels: LabelState[] = [];
  readonly #tags: (Tag | undefined)[] = [];
  readonly #notes = new Map<number, string>();
  readonly #functions: { name: string; label: Label }[] = [];
  #tag: Tag | undefined;

  constructor() {
    this.#functions.push({ name: 'main', label: this.label('main') });
    this.place(this.#functions[0]!.label);
  }

  /** Instructions emitted so far (not slots). */
  get length(): number {
    return this.#items.length;
  }

  /** Sets the tag of the instructions that follow; `undefined` ends it. */
  at(tag: Tag | undefined): this {
    this.#tag = tag;
    return this;
  }

  /** Remark for listings, on the next instruction; gone with it when that is pruned. */
  note(text: string): this {
    this.#notes.set(this.#items.length, text);
    return this;
  }

  /** A new label, to be placed once; the name serves error messages and listings only. */
  label(name?: string): Label {
    const label = makeLabel(this.#labels.length, name ?? `L${this.#labels.length}`);
    this.#labels.push({ label, item: undefined });
    return label;
  }

  /** Puts a label before the next instruction. @throws IsaError `ISA_LABEL` when it was placed already */
  place(label: Label): this {
    const state = this.#labels[label.id];
    if (state?.label !== label)
      throw new IsaError('ISA_LABEL', `label ${label.name} belongs to another assembler`);
    if (state.item !== undefined) throw new IsaError('ISA_LABEL', `label ${label.name} is placed twice`);
    state.item = this.#items.length;
    return this;
  }

  /** Starts a function (a subprogram with its own stack frame) and places its label; `main` is started already. */
  function(name: string, label: Label = this.label(name)): Label {
    this.#functions.push({ name, label });
    this.place(label);
    return label;
  }

  // Arithmetic.

  /** `dst = dst operation operand`, 64 bits. */
  alu(operation: op.AluOperation, dst: Register, operand: Operand): this {
    return this.#arithmetic(op.BPF_ALU64, operation, dst, operand);
  }
  /** `dst = dst operation operand`, 32 bits; the upper half of dst becomes zero. */
  alu32(operation: op.AluOperation, dst: Register, operand: Operand): this {
    return this.#arithmetic(op.BPF_ALU, operation, dst, operand);
  }
  mov(dst: Register, operand: Operand): this {
    return this.alu('mov', dst, operand);
  }
  mov32(dst: Register, operand: Operand): this {
    return this.alu32('mov', dst, operand);
  }
  add(dst: Register, operand: Operand): this {
    return this.alu('add', dst, operand);
  }
  add32(dst: Register, operand: Operand): this {
    return this.alu32('add', dst, operand);
  }
  sub(dst: Register, operand: Operand): this {
    return this.alu('sub', dst, operand);
  }
  sub32(dst: Register, operand: Operand): this {
    return this.alu32('sub', dst, operand);
  }
  mul(dst: Register, operand: Operand): this {
    return this.alu('mul', dst, operand);
  }
  and(dst: Register, operand: Operand): this {
    return this.alu('and', dst, operand);
  }
  and32(dst: Register, operand: Operand): this {
    return this.alu32('and', dst, operand);
  }
  or(dst: Register, operand: Operand): this {
    return this.alu('or', dst, operand);
  }
  or32(dst: Register, operand: Operand): this {
    return this.alu32('or', dst, operand);
  }
  xor(dst: Register, operand: Operand): this {
    return this.alu('xor', dst, operand);
  }
  xor32(dst: Register, operand: Operand): this {
    return this.alu32('xor', dst, operand);
  }
  lsh(dst: Register, operand: Operand): this {
    return this.alu('lsh', dst, operand);
  }
  lsh32(dst: Register, operand: Operand): this {
    return this.alu32('lsh', dst, operand);
  }
  rsh(dst: Register, operand: Operand): this {
    return this.alu('rsh', dst, operand);
  }
  rsh32(dst: Register, operand: Operand): this {
    return this.alu32('rsh', dst, operand);
  }
  arsh(dst: Register, operand: Operand): this {
    return this.alu('arsh', dst, operand);
  }
  arsh32(dst: Register, operand: Operand): this {
    return this.alu32('arsh', dst, operand);
  }
  /** `dst = -dst` */
  neg(dst: Register): this {
    return this.#emit(op.BPF_ALU64 | op.BPF_NEG, dst.number);
  }
  neg32(dst: Register): this {
    return this.#emit(op.BPF_ALU | op.BPF_NEG, dst.number);
  }
  /** `dst = (s8|s16|s32)src`, sign-extended to 64 bits (v4). */
  movSigned(bits: 8 | 16 | 32, dst: Register, src: Register): this {
    return this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst.number, src.number, bits);
  }
  /** `dst = (s8|s16)src`, sign-extended to 32 bits, upper half zero (v4). */
  movSigned32(bits: 8 | 16, dst: Register, src: Register): this {
    return this.#emit(op.BPF_ALU | op.BPF_MOV | op.BPF_X, dst.number, src.number, bits);
  }
  /** Between host and big-endian (network) order; keeps the low `bits`. */
  toBe(dst: Register, bits: SwapBits): this {
    return this.#emit(op.BPF_ALU | op.BPF_END | op.BPF_X, dst.number, 0, 0, bits);
  }
  /** Between host and little-endian order; keeps the low `bits`. */
  toLe(dst: Register, bits: SwapBits): this {
    return this.#emit(op.BPF_ALU | op.BPF_END | op.BPF_K, dst.number, 0, 0, bits);
  }
  /** Reverses the low `bits` whatever the host's order; clears the rest (v4). */
  swap(dst: Register, bits: SwapBits): this {
    return this.#emit(op.BPF_ALU64 | op.BPF_END, dst.number, 0, 0, bits);
  }
  /** Arena pointer as user space and arena memory hold it -> pointer that loads and stores take (Linux 6.9). */
  castToKernel(dst: Register, src: Register): this {
    return this.#emit(
      op.BPF_ALU64 | op.BPF_MOV | op.BPF_X,
      dst.number,
      src.number,
      op.BPF_ADDR_SPACE_CAST,
      1,
    );
  }
  /** The reverse of `castToKernel`. */
  castToUser(dst: Register, src: Register): this {
    return this.#emit(
      op.BPF_ALU64 | op.BPF_MOV | op.BPF_X,
      dst.number,
      src.number,
      op.BPF_ADDR_SPACE_CAST,
      0x10000,
    );
  }

  // Memory.

  /** `dst = *(size *)(base + off)`; the s8, s16 and s32 forms sign-extend (v4). */
  load(size: op.LoadSize, dst: Register, base: Register, off: number): this {
    return this.#emit(loadOpcode(size), dst.number, base.number, off);
  }
  /** `*(size *)(base + off) = value` */
  store(size: op.StoreSize, base: Register, off: number, value: Operand): this {
    const width = op.STORE_SIZES[size];
    if (typeof value !== 'number')
      return this.#emit(op.BPF_STX | op.BPF_MEM | width, base.number, value.number, off);
    const imm = size === 'u64' ? this.#signed(value) : this.#any32(value);
    return this.#emit(op.BPF_ST | op.BPF_MEM | width, base.number, 0, off, imm);
  }
  /** `dst = *(size *)(base + offsetof(struct, member) + plus)`, the offset found when the program is loaded. */
  loadField(
    size: op.LoadSize,
    dst: Register,
    base: Register,
    struct: string,
    member: string,
    plus = 0,
  ): this {
    return this.#emit(loadOpcode(size), dst.number, base.number, plus, 0, { kind: 'field', struct, member });
  }
  /** `*(size *)(base + off) operation= src`, atomically; with `fetch`, src receives the old value. */
  atomic(
    operation: op.AtomicOperation,
    size: 'u32' | 'u64',
    base: Register,
    off: number,
    src: Register,
    fetch: 'fetch' | 'no-fetch' = 'no-fetch',
  ): this {
    const imm = op.ATOMIC_OPERATIONS[operation] | (fetch === 'fetch' ? op.BPF_FETCH : 0);
    return this.#atomic(size, base, off, src, imm);
  }
  /** Exchanges src and memory, atomically. */
  exchange(size: 'u32' | 'u64', base: Register, off: number, src: Register): this {
    return this.#atomic(size, base, off, src, op.BPF_XCHG);
  }
  /** If memory equals r0 it becomes src; r0 receives the old value; atomically. */
  compareExchange(size: 'u32' | 'u64', base: Register, off: number, src: Register): this {
    return this.#atomic(size, base, off, src, op.BPF_CMPXCHG);
  }
  /** Load that later accesses stay behind (Linux 6.15). */
  loadAcquire(size: op.StoreSize, dst: Register, base: Register, off: number): this {
    return this.#emit(
      op.BPF_STX | op.BPF_ATOMIC | op.STORE_SIZES[size],
      dst.number,
      base.number,
      off,
      op.BPF_LOAD_ACQ,
    );
  }
  /** Store that earlier accesses stay before (Linux 6.15). */
  storeRelease(size: op.StoreSize, base: Register, off: number, src: Register): this {
    return this.#emit(
      op.BPF_STX | op.BPF_ATOMIC | op.STORE_SIZES[size],
      base.number,
      src.number,
      off,
      op.BPF_STORE_REL,
    );
  }
  /** `r0 = packet[off]` in host order, from the skb in r6; leaves the program with 0 when out of range. Clobbers r1..r5. */
  loadAbsolute(size: 'u8' | 'u16' | 'u32', off: number): this {
    return this.#emit(op.BPF_LD | op.BPF_ABS | op.STORE_SIZES[size], 0, 0, 0, off);
  }
  /** `r0 = packet[index + off]`; see `loadAbsolute`. */
  loadIndirect(size: 'u8' | 'u16' | 'u32', index: Register, off: number): this {
    return this.#emit(op.BPF_LD | op.BPF_IND | op.STORE_SIZES[size], 0, index.number, 0, off);
  }

  // 64-bit constants and what is only known when the program is loaded.

  /** Any 64-bit constant, signed or unsigned; takes one slot where a sign-extended immediate can say it, else two. */
  loadConstant(dst: Register, value: number | bigint): this {
    const wide = this.#wide(value);
    const low = Number(BigInt.asIntN(32, wide));
    if (BigInt(low) === BigInt.asIntN(64, wide)) return this.mov(dst, low);
    return this.loadWide(dst, wide);
  }
  /** Any 64-bit constant, always as `ld_imm64` (two slots). */
  loadWide(dst: Register, value: number | bigint): this {
    const wide = this.#wide(value);
    return this.#emitWide(dst, 0, Number(BigInt.asIntN(32, wide)), Number(BigInt.asIntN(32, wide >> 32n)));
  }
  /** `dst = the map`, as helpers take it. */
  loadMap(dst: Register, name: string): this {
    return this.#emitWide(dst, op.BPF_PSEUDO_MAP_FD, 0, 0, { kind: 'map', name });
  }
  /** `dst = &value[offset]` of a one-element array map. */
  loadMapValue(dst: Register, name: string, offset = 0): this {
    return this.#emitWide(dst, op.BPF_PSEUDO_MAP_VALUE, 0, offset, { kind: 'mapValue', name, offset });
  }
  /** `dst = user-space address of byte offset of an arena`; cast it before use. */
  loadArena(dst: Register, name: string, offset = 0): this {
    return this.#emitWide(dst, 0, 0, 0, { kind: 'arena', name, offset });
  }
  /** `dst = &kernel variable` (per-CPU ones: for bpf_this_cpu_ptr). */
  loadVariable(dst: Register, name: string): this {
    return this.#emitWide(dst, op.BPF_PSEUDO_BTF_ID, 0, 0, { kind: 'variable', name });
  }
  /** `dst = BTF id of a structure`, for bpf_rdonly_cast. */
  movTypeId(dst: Register, struct: string): this {
    return this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, dst.number, 0, 0, 0, {
      kind: 'type',
      name: struct,
    });
  }
  /** `dst = function`, as bpf_loop and its like take it. */
  loadFunction(dst: Register, target: Label): this {
    return this.#emitWide(dst, op.BPF_PSEUDO_FUNC, 0, 0, undefined, target);
  }

  // Control.

  /** `if (a condition b) goto target`, 64 bits. */
  jump(condition: op.JumpCondition, a: Register, b: Operand, target: Label): this {
    return this.#conditional(op.BPF_JMP, condition, a, b, target);
  }
  /** `if ((u32)a condition (u32)b) goto target` */
  jump32(condition: op.JumpCondition, a: Register, b: Operand, target: Label): this {
    return this.#conditional(op.BPF_JMP32, condition, a, b, target);
  }
  goto(target: Label): this {
    return this.#emit(op.JA, 0, 0, 0, 0, undefined, target);
  }
  /** Leaves a loop to `target` when the kernel's iteration budget is spent (Linux 6.9). */
  mayGoto(target: Label): this {
    return this.#emit(op.MAY_GOTO, 0, 0, 0, 0, undefined, target);
  }
  /** Calls a helper: r1..r5 are its arguments and lost, r0 its result. */
  call(helper: HelperName): this {
    return this.#emit(op.CALL, 0, 0, 0, helperId(helper));
  }
  /** Calls a kernel function by name. */
  callKfunc(name: string): this {
    return this.#emit(op.CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, 0, { kind: 'kfunc', name });
  }
  /** Calls a function of this program. */
  callFunction(target: Label): this {
    return this.#emit(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, 0, undefined, target);
  }
  /** Calls the function whose address is in a register. Linux refuses it; user-space machines take it. */
  callRegister(target: Register): this {
    return this.#emit(op.CALLX, target.number);
  }
  exit(): this {
    return this.#emit(op.EXIT);
  }
  /** `r0 = value; exit` */
  return(value: number): this {
    return this.mov32(R0, value).exit();
  }

  /**
   * Lays out and checks the program.
   *
   * @throws IsaError `ISA_LABEL` a label that is used and never placed, `ISA_JUMP_RANGE`, `ISA_NO_EXIT`, and what `checkProgram` throws
   */
  finish(options: FinishOptions = {}): AssembledProgram<Tag> {
    const starts = this.#functions.map(({ label }) => this.#labels[label.id]!.item!);
    const kept =
      options.prune === true
        ? prunedItems(this.#items, this.#labels, starts)
        : this.#items.map((item, index) => ({ item, index }));
    const items = kept.map(({ item }) => item);
    const places = kept.map(({ index }) => index);
    /** Place among the kept items of the first one that stands at or after an emitted item. */
    const placeOf = (item: number): number => firstNotBelow(places, item);
    const labels = this.#labels.map(({ label, item }) => ({
      label,
      item: item === undefined ? undefined : placeOf(item),
    }));
    const laid = layOut(items, labels);
    const tags: (Tag | undefined)[] = [];
    for (const item of laid.origins) tags.push(this.#tags[places[item]!]);
    const slotOf = (item: number): number => laid.starts[placeOf(item)] ?? laid.instructions.length;
    const stays = new Set(places);
    const notes = new Map(
      [...this.#notes].filter(([item]) => stays.has(item)).map(([item, text]) => [slotOf(item), text]),
    );
    const functions: ProgramFunction[] = this.#functions.map(({ name }, index) => ({
      name,
      start: slotOf(starts[index]!),
    }));
    checkProgram(laid.instructions, { functions });
    return { instructions: laid.instructions, references: laid.references, tags, notes, functions };
  }

  #emit(opcode: number, dst = 0, src = 0, off = 0, imm = 0, reference?: Reference, target?: Label): this {
    if (!Number.isInteger(off) || off < -0x8000 || off > 0x7fff) {
      throw new IsaError('ISA_FIELD_RANGE', `offset ${off} does not fit 16 bits`, {
        index: this.#items.length,
      });
    }
    this.#items.push({ opcode, dst, src, off, imm, high: 0, reference, target });
    this.#tags.push(this.#tag);
    return this;
  }

  #emitWide(
    dst: Register,
    src: number,
    imm: number,
    high: number,
    reference?: Reference,
    target?: Label,
  ): this {
    this.#items.push({ opcode: op.LD_IMM64, dst: dst.number, src, off: 0, imm, high, reference, target });
    this.#tags.push(this.#tag);
    return this;
  }

  #arithmetic(aluClass: number, name: op.AluOperation, dst: Register, operand: Operand): this {
    const { operation, off } = op.ALU_OPERATIONS[name];
    if (typeof operand !== 'number') {
      return this.#emit(aluClass | operation | op.BPF_X, dst.number, operand.number, off);
    }
    const imm = aluClass === op.BPF_ALU ? this.#any32(operand) : this.#signed(operand);
    return this.#emit(aluClass | operation | op.BPF_K, dst.number, 0, off, imm);
  }

  #atomic(size: 'u32' | 'u64', base: Register, off: number, src: Register, imm: number): this {
    return this.#emit(op.BPF_STX | op.BPF_ATOMIC | op.STORE_SIZES[size], base.number, src.number, off, imm);
  }

  #conditional(jumpClass: number, condition: op.JumpCondition, a: Register, b: Operand, target: Label): this {
    const code = jumpClass | op.JUMP_CONDITIONS[condition];
    if (typeof b !== 'number')
      return this.#emit(code | op.BPF_X, a.number, b.number, 0, 0, undefined, target);
    const imm = jumpClass === op.BPF_JMP32 ? this.#any32(b) : this.#signed(b);
    return this.#emit(code, a.number, 0, 0, imm, undefined, target);
  }

  /** An immediate that the machine sign-extends to 64 bits. */
  #signed(value: number): number {
    if (!Number.isInteger(value) || value < -0x80000000 || value > 0x7fffffff) {
      throw new IsaError('ISA_IMMEDIATE_RANGE', `${value} is not a 32-bit signed immediate`, {
        index: this.#items.length,
        hint: 'use the 32-bit form, or loadConstant into a register',
      });
    }
    return value;
  }

  /** An immediate of which only 32 bits count. */
  #any32(value: number): number {
    if (!Number.isInteger(value) || value < -0x80000000 || value > 0xffffffff) {
      throw new IsaError('ISA_IMMEDIATE_RANGE', `${value} does not fit 32 bits`, {
        index: this.#items.length,
      });
    }
    return value | 0;
  }

  #wide(value: number | bigint): bigint {
    const wide = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : undefined;
    if (wide === undefined || wide < -(1n << 63n) || wide >= 1n << 64n) {
      throw new IsaError('ISA_IMMEDIATE_RANGE', `${value} is not a 64-bit constant`, {
        index: this.#items.length,
        hint: 'beyond 2^53 give a bigint',
      });
    }
    return wide;
  }
}

/** Index of the first element of an ascending list that is not below `value`. */
function firstNotBelow(list: readonly number[], value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function loadOpcode(size: op.LoadSize): number {
  return size in op.SIGNED_SIZES
    ? op.BPF_LDX | op.BPF_MEMSX | op.SIGNED_SIZES[size as op.SignedSize]
    : op.BPF_LDX | op.BPF_MEM | op.STORE_SIZES[size as op.StoreSize];
}
