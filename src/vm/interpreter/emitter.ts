/** What the handlers of the interpreter are written in: a function body plus access to the decoded record and the registers. */
import * as layout from '../layout.ts';
import { type BranchTarget, type FunctionBody, I32, I64, type PlainOp } from '../wasm/encoder.ts';

/** Functions that the interpreter imports. */
export interface ImportedFunctions {
  /** (ip, address low, address high, kind) -> region entry; throws. Kind is the offset of the region's limit field. */
  readonly region: number;
  /** (ip) -> 0, or the record where a tail call goes on. */
  readonly call: number;
  /** (ip, register value low, high) -> record of the function; throws. */
  readonly target: number;
  /** (ip, offset, bytes) -> 1 when r0 was loaded from the packet, 0 when it is out of range. */
  readonly packet: number;
  /** (ip, code) throws. */
  readonly stop: number;
}

export interface Labels {
  /** Fetch the next record. */
  readonly dispatch: BranchTarget;
  /** Jump by the record's offset. */
  readonly taken: BranchTarget;
  /** Leave the frame. */
  readonly leave: BranchTarget;
}

export class Emitter {
  readonly body: FunctionBody;
  readonly ip: number;
  readonly imports: ImportedFunctions;
  readonly labels: Labels;
  /** Scratch: register offset of dst, address, operands. */
  readonly slot: number;
  readonly region: number;
  readonly narrow: number;
  readonly narrow2: number;
  readonly address: number;
  readonly wide: number;
  readonly wide2: number;
  readonly frame: number;
  readonly start: number;
  readonly budget: number;

  constructor(
    body: FunctionBody,
    ip: number,
    frame: number,
    imports: ImportedFunctions,
    labels: Labels,
    shared: SharedLocals,
  ) {
    this.body = body;
    this.ip = ip;
    this.frame = frame;
    this.imports = imports;
    this.labels = labels;
    this.start = shared.start;
    this.budget = shared.budget;
    this.slot = shared.slot;
    this.region = shared.region;
    this.narrow = shared.narrow;
    this.narrow2 = shared.narrow2;
    this.address = shared.address;
    this.wide = shared.wide;
    this.wide2 = shared.wide2;
  }

  /** Pushes dst's place in the register file, and keeps it in `slot`. */
  dstSlot(): this {
    this.body.get(this.ip).memory('i32.load8_u', layout.RECORD_DST).tee(this.slot);
    return this;
  }
  /** Keeps dst's place in `slot`. */
  locateDst(): this {
    this.body.get(this.ip).memory('i32.load8_u', layout.RECORD_DST).set(this.slot);
    return this;
  }
  /** Pushes the register whose place is in `slot`. */
  dst64(): this {
    this.body.get(this.slot).memory('i64.load', layout.REGISTERS);
    return this;
  }
  dst32(): this {
    this.body.get(this.slot).memory('i32.load', layout.REGISTERS);
    return this;
  }
  src64(): this {
    this.body.get(this.ip).memory('i32.load8_u', layout.RECORD_SRC).memory('i64.load', layout.REGISTERS);
    return this;
  }
  src32(): this {
    this.body.get(this.ip).memory('i32.load8_u', layout.RECORD_SRC).memory('i32.load', layout.REGISTERS);
    return this;
  }
  imm64(): this {
    this.body.get(this.ip).memory('i64.load', layout.RECORD_IMM);
    return this;
  }
  imm32(): this {
    this.body.get(this.ip).memory('i32.load', layout.RECORD_IMM);
    return this;
  }
  off(): this {
    this.body.get(this.ip).memory('i32.load', layout.RECORD_OFF);
    return this;
  }
  /** Register -> second operand, 64 bits. */
  operand64(register: boolean): this {
    return register ? this.src64() : this.imm64();
  }
  operand32(register: boolean): this {
    return register ? this.src32() : this.imm32();
  }
  op(name: PlainOp): this {
    this.body.op(name);
    return this;
  }
  /** Stores the i64 on the stack into the register whose slot is below it. */
  store64(): this {
    this.body.memory('i64.store', layout.REGISTERS);
    return this;
  }
  /** Stores the i32 on the stack, zero-extended. */
  store32(): this {
    this.body.op('i64.extend_i32_u').memory('i64.store', layout.REGISTERS);
    return this;
  }
  /** Goes on with the record `records` further. */
  next(records = 1): this {
    this.body
      .get(this.ip)
      .i32(layout.RECORD_BYTES * records)
      .op('i32.add')
      .set(this.ip)
      .branch(this.labels.dispatch);
    return this;
  }

  /**
   * Computes the address of an access into `address`, checked: base register + offset lies in a region that has room
   * for `bytes`. Each record remembers the region that it hit last.
   */
  checkedAddress(base: 'dst' | 'src', bytes: 1 | 2 | 4 | 8, write: boolean): this {
    const kind = (write ? layout.REGION_WRITE : layout.REGION_READ) + 4 * Math.log2(bytes);
    const { body } = this;
    body.get(this.ip).memory('i32.load8_u', base === 'dst' ? layout.RECORD_DST : layout.RECORD_SRC);
    body.memory('i64.load', layout.REGISTERS);
    body.get(this.ip).memory('i64.load32_s', layout.RECORD_OFF).op('i64.add').tee(this.wide);
    body
      .get(this.ip)
      .memory('i32.load', layout.RECORD_REGION)
      .tee(this.region)
      .memory('i64.load', 0)
      .op('i64.sub');
    body.get(this.region).memory('i64.load32_u', kind).op('i64.ge_u');
    body.if();
    body.get(this.ip);
    body.get(this.ip).get(this.wide).op('i32.wrap_i64');
    body.get(this.wide).i64(32n).op('i64.shr_u').op('i32.wrap_i64').i32(kind).call(this.imports.region);
    body.memory('i32.store', layout.RECORD_REGION);
    body.end();
    body.get(this.wide).op('i32.wrap_i64').set(this.address);
    return this;
  }

  /** Brings the count of executed instructions up to date; `ip` itself is not counted yet. */
  account(): this {
    const { body } = this;
    body.get(this.budget);
    body.get(this.ip).get(this.start).op('i32.sub').op('i64.extend_i32_s').op('i64.sub').set(this.budget);
    return this;
  }
  /** Tells code outside the interpreter how much of the budget is left. */
  flush(): this {
    this.account();
    this.body.get(this.ip).set(this.start);
    this.body.i32(layout.CONTROL_BUDGET).get(this.budget).memory('i64.store', 0);
    return this;
  }
  /** Takes over what code outside the interpreter has used of the budget. */
  reload(): this {
    this.body.i32(layout.CONTROL_BUDGET).memory('i64.load', 0).set(this.budget);
    return this;
  }
}

export interface SharedLocals {
  readonly start: number;
  readonly budget: number;
  readonly slot: number;
  readonly region: number;
  readonly narrow: number;
  readonly narrow2: number;
  readonly address: number;
  readonly wide: number;
  readonly wide2: number;
}

export function sharedLocals(body: FunctionBody): SharedLocals {
  return {
    start: body.local(I32),
    budget: body.local(I64),
    slot: body.local(I32),
    region: body.local(I32),
    narrow: body.local(I32),
    narrow2: body.local(I32),
    address: body.local(I32),
    wide: body.local(I64),
    wide2: body.local(I64),
  };
}
