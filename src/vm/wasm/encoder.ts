/**
 * Encoder of WebAssembly binaries (https://webassembly.github.io/spec/core/binary/), as much as the engines emit:
 * imports, functions, one imported memory, structured control flow with named labels.
 */

/** Value types. */
export const I32 = 0x7f;
export const I64 = 0x7e;
export type ValueType = typeof I32 | typeof I64;

/** Type of a function. */
export interface Signature {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

/** Opcodes without immediates, by the text format's names. */
export const OP = {
  unreachable: 0x00,
  return: 0x0f,
  drop: 0x1a,
  select: 0x1b,
  'i32.eqz': 0x45,
  'i32.eq': 0x46,
  'i32.ne': 0x47,
  'i32.lt_s': 0x48,
  'i32.lt_u': 0x49,
  'i32.gt_s': 0x4a,
  'i32.gt_u': 0x4b,
  'i32.le_s': 0x4c,
  'i32.le_u': 0x4d,
  'i32.ge_s': 0x4e,
  'i32.ge_u': 0x4f,
  'i64.eqz': 0x50,
  'i64.eq': 0x51,
  'i64.ne': 0x52,
  'i64.lt_s': 0x53,
  'i64.lt_u': 0x54,
  'i64.gt_s': 0x55,
  'i64.gt_u': 0x56,
  'i64.le_s': 0x57,
  'i64.le_u': 0x58,
  'i64.ge_s': 0x59,
  'i64.ge_u': 0x5a,
  'i32.add': 0x6a,
  'i32.sub': 0x6b,
  'i32.mul': 0x6c,
  'i32.div_s': 0x6d,
  'i32.div_u': 0x6e,
  'i32.rem_s': 0x6f,
  'i32.rem_u': 0x70,
  'i32.and': 0x71,
  'i32.or': 0x72,
  'i32.xor': 0x73,
  'i32.shl': 0x74,
  'i32.shr_s': 0x75,
  'i32.shr_u': 0x76,
  'i32.rotl': 0x77,
  'i64.add': 0x7c,
  'i64.sub': 0x7d,
  'i64.mul': 0x7e,
  'i64.div_s': 0x7f,
  'i64.div_u': 0x80,
  'i64.rem_s': 0x81,
  'i64.rem_u': 0x82,
  'i64.and': 0x83,
  'i64.or': 0x84,
  'i64.xor': 0x85,
  'i64.shl': 0x86,
  'i64.shr_s': 0x87,
  'i64.shr_u': 0x88,
  'i64.rotl': 0x89,
  'i32.wrap_i64': 0xa7,
  'i64.extend_i32_s': 0xac,
  'i64.extend_i32_u': 0xad,
  'i32.extend8_s': 0xc0,
  'i32.extend16_s': 0xc1,
  'i64.extend8_s': 0xc2,
  'i64.extend16_s': 0xc3,
  'i64.extend32_s': 0xc4,
} as const;
export type PlainOp = keyof typeof OP;

/** Loads and stores; the alignment hint is always 0, because eBPF packets have none. */
export const MEMORY_OP = {
  'i32.load': 0x28,
  'i64.load': 0x29,
  'i32.load8_u': 0x2d,
  'i32.load16_u': 0x2f,
  'i64.load8_s': 0x30,
  'i64.load8_u': 0x31,
  'i64.load16_s': 0x32,
  'i64.load16_u': 0x33,
  'i64.load32_s': 0x34,
  'i64.load32_u': 0x35,
  'i32.store': 0x36,
  'i64.store': 0x37,
  'i64.store8': 0x3c,
  'i64.store16': 0x3d,
  'i64.store32': 0x3e,
} as const;
export type MemoryOp = keyof typeof MEMORY_OP;

function pushUnsigned(out: number[], value: number): void {
  let rest = value >>> 0;
  while (rest > 0x7f) {
    out.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  out.push(rest);
}

function pushSigned(out: number[], value: bigint): void {
  let rest = value;
  for (;;) {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
      out.push(low);
      return;
    }
    out.push(low | 0x80);
  }
}

/** A block, loop or if that can be branched to. */
export interface BranchTarget {
  readonly depth: number;
}

/** The body of one function. Methods append instructions and return the body, so that they chain. */
export class FunctionBody {
  readonly #code: number[] = [];
  readonly #locals: ValueType[] = [];
  readonly #params: number;
  #depth = 0;

  constructor(signature: Signature) {
    this.#params = signature.params.length;
  }

  /** A new local variable. */
  local(type: ValueType): number {
    this.#locals.push(type);
    return this.#params + this.#locals.length - 1;
  }
  op(name: PlainOp): this {
    this.#code.push(OP[name]);
    return this;
  }
  get(local: number): this {
    return this.#indexed(0x20, local);
  }
  set(local: number): this {
    return this.#indexed(0x21, local);
  }
  tee(local: number): this {
    return this.#indexed(0x22, local);
  }
  i32(value: number): this {
    this.#code.push(0x41);
    pushSigned(this.#code, BigInt(value | 0));
    return this;
  }
  i64(value: bigint): this {
    this.#code.push(0x42);
    pushSigned(this.#code, BigInt.asIntN(64, value));
    return this;
  }
  memory(name: MemoryOp, offset: number): this {
    this.#code.push(MEMORY_OP[name], 0);
    pushUnsigned(this.#code, offset);
    return this;
  }
  /** Stack: destination, byte value, length. */
  fill(): this {
    this.#code.push(0xfc, 0x0b, 0);
    return this;
  }
  call(functionIndex: number): this {
    return this.#indexed(0x10, functionIndex);
  }

  /** Opens a block: branching to it leaves it. */
  block(): BranchTarget {
    return this.#open(0x02);
  }
  /** Opens a loop: branching to it starts it again. */
  loop(): BranchTarget {
    return this.#open(0x03);
  }
  /** Opens a conditional on the i32 on the stack. */
  if(): BranchTarget {
    return this.#open(0x04);
  }
  else(): this {
    this.#code.push(0x05);
    return this;
  }
  end(): this {
    this.#depth--;
    this.#code.push(0x0b);
    return this;
  }
  branch(target: BranchTarget): this {
    return this.#indexed(0x0c, this.#depth - target.depth);
  }
  branchIf(target: BranchTarget): this {
    return this.#indexed(0x0d, this.#depth - target.depth);
  }
  branchTable(targets: readonly BranchTarget[], otherwise: BranchTarget): this {
    this.#code.push(0x0e);
    pushUnsigned(this.#code, targets.length);
    for (const target of targets) pushUnsigned(this.#code, this.#depth - target.depth);
    pushUnsigned(this.#code, this.#depth - otherwise.depth);
    return this;
  }

  /** The function's entry in the code section. */
  encode(): number[] {
    const body: number[] = [];
    pushUnsigned(body, this.#locals.length);
    for (const type of this.#locals) body.push(1, type);
    for (const byte of this.#code) body.push(byte);
    body.push(0x0b);
    const out: number[] = [];
    pushUnsigned(out, body.length);
    for (const byte of body) out.push(byte);
    return out;
  }

  #open(opcode: number): BranchTarget {
    this.#code.push(opcode, 0x40);
    this.#depth++;
    return { depth: this.#depth };
  }
  #indexed(opcode: number, index: number): this {
    this.#code.push(opcode);
    pushUnsigned(this.#code, index);
    return this;
  }
}

/** A module that imports one memory (`env.memory`) and functions (`env.*`), and exports functions. */
export class ModuleBuilder {
  readonly #signatures: Signature[] = [];
  readonly #imports: { name: string; type: number }[] = [];
  readonly #functions: { name: string; type: number; body: FunctionBody }[] = [];
  readonly #memoryMaximum: number;

  /** @param memoryMaximum pages; that of the memory to be given */
  constructor(memoryMaximum: number) {
    this.#memoryMaximum = memoryMaximum;
  }

  /** Declares an imported function; all imports come before the first `exportFunction`. @returns its index */
  importFunction(name: string, params: readonly ValueType[], results: readonly ValueType[]): number {
    this.#imports.push({ name, type: this.#type({ params, results }) });
    return this.#imports.length - 1;
  }

  /** Declares and exports a function. @returns its body, to be filled before `encode` */
  exportFunction(name: string, params: readonly ValueType[], results: readonly ValueType[]): FunctionBody {
    const signature = { params, results };
    const body = new FunctionBody(signature);
    this.#functions.push({ name, type: this.#type(signature), body });
    return body;
  }

  encode(): Uint8Array {
    const out: number[] = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
    const section = (id: number, entries: readonly (readonly number[])[]): void => {
      const body: number[] = [];
      pushUnsigned(body, entries.length);
      for (const entry of entries) for (const byte of entry) body.push(byte);
      out.push(id);
      pushUnsigned(out, body.length);
      for (const byte of body) out.push(byte);
    };
    const name = (text: string): number[] => [text.length, ...[...text].map((c) => c.charCodeAt(0))];
    const unsigned = (value: number): number[] => {
      const bytes: number[] = [];
      pushUnsigned(bytes, value);
      return bytes;
    };
    section(
      1,
      this.#signatures.map(({ params, results }) => [
        0x60,
        params.length,
        ...params,
        results.length,
        ...results,
      ]),
    );
    section(2, [
      [...name('env'), ...name('memory'), 2, 1, 1, ...unsigned(this.#memoryMaximum)],
      ...this.#imports.map((entry) => [...name('env'), ...name(entry.name), 0, ...unsigned(entry.type)]),
    ]);
    section(
      3,
      this.#functions.map(({ type }) => unsigned(type)),
    );
    section(
      7,
      this.#functions.map((entry, index) => [
        ...name(entry.name),
        0,
        ...unsigned(this.#imports.length + index),
      ]),
    );
    section(
      10,
      this.#functions.map(({ body }) => body.encode()),
    );
    return Uint8Array.from(out);
  }

  #type(signature: Signature): number {
    const key = JSON.stringify(signature);
    const known = this.#signatures.findIndex((other) => JSON.stringify(other) === key);
    if (known !== -1) return known;
    this.#signatures.push(signature);
    return this.#signatures.length - 1;
  }
}
